import json

import pytest
from conftest import write_rows
from planted_rows import sentences

from thunder import digest
from thunder.corpora.builders.synthetic_corpus import build_nko_synthetic_asr_correction_chatml
from thunder.corpora.channels.error_channel import learn_error_channel
from thunder.corpora.corpus_settings import SyntheticSettings
from thunder.corpora.splits import near_duplicates
from thunder.corpora.splits.split_by_reference import part_of_mark, text_mark
from thunder.text import distance


@pytest.fixture
def clean(tmp_path):
    path = tmp_path / "clean.tsv"
    path.write_text("id\tnqo\n" + "".join(f"{n}\t{text}\n" for n, text in enumerate(sentences(300))), encoding="utf-8")
    return path


def make(out, **options):
    manifest = build_nko_synthetic_asr_correction_chatml(SyntheticSettings(out=str(out), **options))
    rows = [
        json.loads(line)
        for part in ("train", "valid", "test")
        for line in (out / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    return manifest, rows


@pytest.mark.parametrize("target", [0.05, 0.2, 0.4])
def test_the_target_is_hit_within_a_tenth(tmp_path, clean, target):
    manifest, rows = make(tmp_path / "out", text=[str(clean)], rows=180, target_cer=target, identity_share=0.2)
    assert len(rows) == 180
    edits = sum(distance.edit_distance(row["asr_text"], row["reference_text"]) for row in rows)
    cer = edits / sum(len(row["reference_text"]) for row in rows)
    assert cer == pytest.approx(target, rel=0.1)
    assert manifest["made_cer"] == pytest.approx(cer, abs=1e-6)
    assert sum(row["origin"] == "identity" for row in rows) == 36
    assert (manifest["channel"]["name"], {row["evidence_class"] for row in rows}) == ("hand-written", {"synthetic"})


def test_the_same_bytes_again_and_others_for_another_seed(tmp_path, clean):
    def digests(name, seed):
        make(tmp_path / name, text=[str(clean)], rows=60, seed=seed)
        return {file.name: digest.sha256_file(file) for file in (tmp_path / name).iterdir()}

    assert digests("one", 3) == digests("two", 3)
    assert digests("one", 3)["train.jsonl"] != digests("three", 4)["train.jsonl"]


def test_parts_share_no_stretch(tmp_path, clean):
    manifest, rows = make(tmp_path / "out", text=[str(clean)], rows=200, near_duplicate_chars=12)
    by_part = {}
    for row in rows:
        by_part.setdefault(row["split"], []).append(near_duplicates.comparable_key(row["reference_text"]))
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        stretches = {key[at : at + 12] for key in by_part[one] for at in range(len(key) - 11)}
        assert not any(key[at : at + 12] in stretches for key in by_part[other] for at in range(len(key) - 11))
    assert manifest["left_out"]["near duplicates of held-out text"] > 0


def test_errors_are_learned_from_training_rows_only(tmp_path, clean):
    pairs = [{"before": text, "after": text} for text in sentences(200)]
    for row in pairs:
        held = part_of_mark(text_mark(near_duplicates.comparable_key(row["after"])), "thunder", 0.05, 0.1) != "train"
        row["before"] = row["before"].replace("\u07ec", "\u07ef" if held else "\u07eb")
    source = write_rows(tmp_path / "rows.jsonl", pairs)
    manifest, rows = make(tmp_path / "out", learn_from=[str(source)], text=[str(clean)], rows=100, target_cer=0.1)
    assert manifest["channel"]["name"] == "learned"
    assert manifest["channel"]["held_out_rows_not_learned_from"] > 5
    heard = {
        step.hypothesis
        for row in rows
        for step in distance.align_texts(row["asr_text"], row["reference_text"], equal=False)
    }
    assert "\u07eb" in heard and "\u07ef" not in heard


def test_a_learned_model_can_be_used_again(tmp_path, clean):
    source = write_rows(tmp_path / "r.jsonl", [{"hyp": text.replace("ߊ", "ߐ"), "ref": text} for text in sentences(60)])
    _, first = make(tmp_path / "one", learn_from=[str(source)], text=[str(clean)], rows=50, target_cer=0.1)
    model = tmp_path / "one" / "confusions.json"
    _, again = make(tmp_path / "two", channel=str(model), text=[str(clean)], rows=50, target_cer=0.1)
    assert [row["asr_text"] for row in first] == [row["asr_text"] for row in again]


def test_without_any_text_the_sample_grammar_speaks(tmp_path):
    manifest, rows = make(tmp_path / "out", rows=120)
    assert len(rows) == 120 and manifest["sources"] == []
    assert {row["source"] for row in rows} == {"the grammar of the sample corpus"}


def test_too_little_text_is_said(tmp_path, clean):
    manifest, rows = make(tmp_path / "out", text=[str(clean)], rows=900)
    missing = manifest["notes"]["rows asked for and not made, for want of text"]
    assert len(rows) + missing == 900 and missing >= 600


def test_no_synthetic_row_is_without_an_error(tmp_path):
    """Short texts at a low error rate: identity rows are those asked for, and each other row has an error."""
    source = write_rows(tmp_path / "short.jsonl", [{"nqo": text[:14].strip()} for text in sentences(400)])
    manifest, rows = make(tmp_path / "out", text=[str(source)], rows=100, target_cer=0.08, identity_share=0.2)
    origins = [row["origin"] for row in rows]
    assert origins.count("identity") == round(0.2 * len(rows))
    for row in rows:
        assert (row["cer_edits"] == 0) == (row["origin"] == "identity") == (row["asr_text"] == row["reference_text"])
    assert "texts that the channel has no error for, kept as identity rows" not in manifest["notes"]


def test_texts_that_cannot_be_damaged_are_identity_rows_and_counted(tmp_path, clean):
    """The channel damages one letter only, which half of the texts do not have."""
    channel = learn_error_channel([("ߓߊߓߏ", "ߓߊߓߛ")] * 30)
    path = tmp_path / "one.json"
    path.write_text(channel.to_json(), encoding="utf-8")
    manifest, rows = make(
        tmp_path / "out", text=[str(clean)], rows=120, channel=str(path), target_cer=0.02, identity_share=0.1
    )
    unchanged = [row for row in rows if row["asr_text"] == row["reference_text"]]
    assert {row["origin"] for row in unchanged} == {"identity"}
    kept = manifest["notes"]["texts that the channel has no error for, kept as identity rows"]
    assert kept == len(unchanged) - sum(row["channel"] == "identity" for row in rows) > 0
