"""Clean texts: reasons for rejection are counted, benchmarks are refused, and the sample is uniform."""

from itertools import pairwise

import pytest
from planted_rows import sentences

from thunder.corpora.builders import clean_texts
from thunder.corpora.splits import eval_only
from thunder.errors import CorpusError


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
