import json
import shutil
import subprocess
from itertools import pairwise

import pytest
from conftest import write_rows

from thunder import digest
from thunder.corpora.builders import clean_texts
from thunder.corpora.builders.synthetic_corpus import build_nko_synthetic_asr_correction_chatml
from thunder.corpora.channels import confusions
from thunder.corpora.channels.error_channel import learn_error_channel
from thunder.corpora.channels.hand_written import hand_written_channel
from thunder.corpora.corpus_settings import SyntheticSettings
from thunder.corpora.splits import eval_only, near_duplicates
from thunder.corpora.splits.split_by_reference import part_of_mark, text_mark
from thunder.errors import CorpusError
from thunder.text import distance

WORDS = "ߡߏ߬ߛߏ ߞߊ߬ߝߊ ߟߍߙߊ ߖߡߊ߬ߣߊ ߘߐ߫ ߓߟߏ߫ ߞߣߐ߫ ߛߓߍ߫ ߞߊ߬ߙߊ߲߬ ߥߊ߫ ߣߊ߬ ߞߎߡߊ ߕߋߙߌ ߘߋ߲ ߗߍ߭ ߓߏ߲ ߛߌߟߊ ߦߙߌ".split()


def sentences(count):
    """Texts no two of which share three words in a row."""
    import random

    draw, seen, out = random.Random(4), set(), []
    while len(out) < count:
        words = draw.choices(WORDS, k=6)
        threes = {tuple(words[at : at + 3]) for at in range(4)}
        if not threes & seen:
            seen |= threes
            out.append(" ".join(words))
    return out


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


# clean text


def choose(path, column="nqo", most=1000):
    return clean_texts.choose_texts([path], column, most, 0, (3, 60))


def test_why_lines_are_left_out_is_counted(tmp_path, monkeypatch):
    path = tmp_path / "lines.txt"
    lines = ["ߓߊ߬ ߓߏ߲", " ߓߊ߬ ߓߏ߲ ", "ߓ", "ߓ" * 61, "ߓaߊ ߓߊ", "ߞߊ߬ ߕߊ߯"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.setattr(eval_only, "_sentences", lambda: frozenset({int(eval_only.digest_line("ߞߊ߬ ߕߊ߯"), 16)}))
    found = choose(path)
    assert [(text.text, text.source) for text in found.chosen] == [("ߓߊ߬ ߓߏ߲", "lines.txt:1")]
    assert found.left_out == {
        "said already": 1, "too short or too long": 2, "with faults": 1, "sentences of a benchmark": 1
    }  # fmt: skip


def test_a_benchmark_is_no_clean_text_even_in_other_bytes(tmp_path, monkeypatch):
    lines = sentences(10)
    monkeypatch.setattr(
        eval_only, "_sentences", lambda: frozenset(int(eval_only.digest_line(one), 16) for one in lines)
    )
    path = tmp_path / "renamed.txt"
    path.write_text("\r\n".join(f"  {line}" for line in lines), encoding="utf-8")
    with pytest.raises(CorpusError, match="10 of 10 texts are of FLORES-200"):
        choose(path)


@pytest.mark.expensive
def test_each_text_has_the_same_chance(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"line {number:03}\n" for number in range(200)), encoding="utf-8")
    times = dict.fromkeys(range(200), 0)
    for seed in range(200):
        chosen = [int(text.text[5:]) for text in clean_texts.choose_texts([path], "", 50, seed, (3, 60)).chosen]
        assert len(chosen) == 50 and all(one < other for one, other in pairwise(chosen))
        for number in chosen:
            times[number] += 1
    # binomial(200, 1/4): mean 50, deviation 6.1
    assert 25 < min(times.values()) and max(times.values()) < 75


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.tsv", "id\tbam\n1\tx\n", "no column 'nqo'"),
        ("a.tsv", "id\tnqo\n1\n", "a.tsv:2: has 1 cells"),
        ("a.jsonl", '{"text": "x"}\n', "a.jsonl:1: 'nqo' is missing or not a string"),
        ("a.jsonl", '{"nqo": "\\ud800"}\n', "a.jsonl:1: is not UTF-8"),
        ("a.txt", "\udcff\n", "a.txt:1: is not UTF-8"),
    ],
)
def test_files_that_are_no_clean_text(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CorpusError, match=said):
        choose(path)


# the picture


def test_the_table_holds_what_was_counted():
    table = confusions.confusion_table(
        learn_error_channel([("ߓߋ ߓߋ", "ߓߊ ߓߊ"), ("ߓߊ", "ߓߊ߬"), ("ߓߊߓߊ", "ߓߊ ߓߊ"), ("ߓ ߊ", "ߓߊ")])
    )
    assert [(one.wanted, one.heard, one.times, one.kind) for one in table] == [
        ("ߊ", "ߋ", 2, "letter swapped"),
        ("", " ", 1, "word split"),
        (" ", "", 1, "words merged"),
        ("\u07ec", "", 1, "tone mark lost"),
    ]
    assert confusions.confusions_by_class(table)["letter swapped"] == 2


@pytest.mark.parametrize(
    ("wanted", "heard", "kind"),
    [
        ("\u07eb", "\u07ec", "tone mark swapped"), ("", "\u07ec", "tone mark added"), ("ߊ", "", "letter lost"),
        ("", "ߊߓ", "letter added"), ("\u07f2", "", "nasal dot lost or added"), (",", "", "other"),
    ],
)  # fmt: skip
def test_classes(wanted, heard, kind):
    assert confusions._class(wanted, heard) == kind


def test_marks_stand_on_a_dotted_circle_each_in_its_own_text(tmp_path):
    import xml.etree.ElementTree as tree

    root = tree.fromstring(confusions.confusion_picture(hand_written_channel()))
    signs = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text") if text.get("direction") == "rtl"]
    assert "\u25cc\u07eb" in signs and "\u2423" in signs and "\u2205" in signs
    assert not any(sign[0] in "\u07eb\u07ec\u07f2" for sign in signs)
    heights = [float(bar.get("y")) for bar in root.iter("{http://www.w3.org/2000/svg}rect") if bar.get("rx")]
    assert max(heights) < float(root.get("height"))


@pytest.mark.skipif(not shutil.which("rsvg-convert"), reason="needs rsvg-convert")
def test_the_picture_can_be_drawn(tmp_path):
    (tmp_path / "a.svg").write_text(confusions.confusion_picture(hand_written_channel()), encoding="utf-8")
    subprocess.run(["rsvg-convert", "a.svg", "-o", "a.png"], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "a.png").stat().st_size > 10_000
