"""The README of a corpus: its numbers are those of the rows, and its sections those that have content."""

from thunder.corpora.builders.describe import corpus_readme, error_classes, error_model_files
from thunder.corpora.builders.totals import PartTotals
from thunder.corpora.channels.error_channel import channel_from_json, learn_error_channel

MANIFEST = {
    "builder": "build_agp_nko_correction_chatml",
    "sources": [{"name": "rows.jsonl", "rows": 2, "form": "pairs", "sha256": "f" * 64}],
    "left_out": {"beyond --max-cer": 7},
    "notes": {},
    "channel": None,
}


def totals():
    part = PartTotals()
    part.add(1, 4, ("stable", "nko", "plain", "real", "smoke"), (1, 4, 1, 2, 0, 2, 1, 1))
    part.add(0, 4, ("stable", "nko", "plain", "real", "smoke"), (0, 4, 0, 2, 0, 2, 0, 1))
    return {"train": part, "valid": PartTotals(), "test": PartTotals()}


def test_the_table_has_each_part_with_rows_and_its_rates():
    text = corpus_readme(MANIFEST, totals())
    assert text.startswith("# Correction rows\n")
    assert "| train.jsonl | 2 | 1 | 0.1250 | 0.2500 | 0.0000 | 0.5000 |" in text
    assert "valid.jsonl" not in text and "- train: real 2; smoke 2; stable 2; nko 2\n" in text
    assert f"- `rows.jsonl`: 2 rows (pairs), sha256 `{'f' * 64}`" in text
    assert "## Left out\n\n- beyond --max-cer: 7\n" in text
    assert "## Worth knowing" not in text and "## Errors" not in text


def test_a_synthetic_corpus_describes_its_errors():
    channel = {"name": "learned", "pairs": 5, "edits": 3, "cer": 0.25}
    text = corpus_readme(MANIFEST | {"builder": "a_synthetic_builder", "channel": channel, "sources": []}, totals())
    assert text.startswith("# Synthetic correction rows\n") and "- none: sentences of the sample corpus" in text
    assert "The error model is **learned**: 3 edits in 5 training rows (CER 0.2500)" in text


def test_the_files_and_classes_of_an_error_model():
    channel = learn_error_channel([("ߓߋ ߓߋ", "ߓߊ ߓߊ"), ("ߓߊ", "ߓߊ߬")])
    files = error_model_files(channel)
    assert channel_from_json(files["confusions.json"], "c.json") == channel and "<svg" in files["confusions.svg"]
    assert error_model_files(None) == {}
    classes = error_classes(channel)
    assert (classes["classes"]["letter swapped"], classes["classes"]["tone mark lost"]) == (2, 1)
    assert classes["most_frequent"][0] == {"wanted": "ߊ", "heard": "ߋ", "times": 2, "kind": "letter swapped"}
