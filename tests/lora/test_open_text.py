"""The text that a base is pretrained on: what it may not have seen, what is held out, what is wrong with a file."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from conftest import WORDS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thunder.errors import CorpusError
from thunder.lora.lora_settings import PretrainSettings
from thunder.lora.open_text import WINDOW, read_open_text


def lines(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(4, 30))) for _ in range(count)]


def pretrain_settings(folder: Path, text: list[str], **changes) -> PretrainSettings:
    (folder / "a.tsv").write_text("nqo\n" + "".join(f"{line}\n" for line in text), encoding="utf-8")
    return PretrainSettings(text_root=str(folder), text=["a.tsv"], **({"heldout": 0.2} | changes))


def forbid(folder: Path, texts: list[str]) -> list[str]:
    rows = [{"id": f"r{n}", "asr_text": text, "reference_text": text} for n, text in enumerate(texts)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [str(folder / "rows.jsonl")]


def longest_shared(one: str, other: str) -> int:
    """Code points of the longest run that stands in both, by trying every run."""
    best = 0
    for start in range(len(one)):
        while one[start : start + best + 1] in other and start + best < len(one):
            best += 1
    return best


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(0, 40), st.integers(1, 3 * WINDOW))
def test_a_line_that_shares_a_long_run_with_a_row_is_never_seen(tmp_path, seed, start, length):
    text = list(dict.fromkeys(lines(30, seed)))
    taken = max(text, key=len)[start : start + length]
    row = f"{WORDS[0]} {taken} {WORDS[1]}"
    found = read_open_text(pretrain_settings(tmp_path, text, exclude_rows=forbid(tmp_path, [row]), heldout_lines=100))
    seen = {*found.train, *found.heldout}
    assert len(seen) + found.excluded == len(text)
    for line in text:
        shared = longest_shared(line, row)
        assert line not in seen or shared < 2 * WINDOW
        assert line in seen or shared >= WINDOW


def test_a_short_row_is_not_seen_as_a_whole_line(tmp_path):
    text = [*lines(40), WORDS[3]]
    found = read_open_text(pretrain_settings(tmp_path, text, exclude_rows=forbid(tmp_path, [WORDS[3]])))
    assert found.excluded == 1 and WORDS[3] not in {*found.train, *found.heldout}


def test_a_line_is_held_out_by_itself_whatever_stands_beside_it(tmp_path):
    text = list(dict.fromkeys(lines(300)))
    whole = read_open_text(pretrain_settings(tmp_path, text, heldout_lines=1000))
    fewer = read_open_text(pretrain_settings(tmp_path, [*text[150:], *text[150:]], heldout_lines=1000))
    assert set(whole.train).isdisjoint(whole.heldout) and {*whole.train, *whole.heldout} == set(text)
    assert set(fewer.heldout) == set(whole.heldout) & set(text[150:])
    assert 0.1 < len(whole.heldout) / len(text) < 0.3
    assert len(read_open_text(pretrain_settings(tmp_path, text, heldout_lines=7)).heldout) == 7


def test_domains_may_be_left_out(tmp_path):
    text = lines(60)
    rows = [f"{'bible' if number % 3 else 'news'}\t{line}" for number, line in enumerate(text)]
    options = pretrain_settings(tmp_path, [], exclude_domains=["bible"], heldout_lines=100)
    (tmp_path / "a.tsv").write_text("domain\tnqo\n" + "\n".join(rows) + "\n", encoding="utf-8")
    found = read_open_text(options)
    assert {*found.train, *found.heldout} == {line for number, line in enumerate(text) if not number % 3}


@pytest.mark.parametrize(
    "content, said",
    [
        (b"bam\nx\n", r"a\.tsv:1: no column 'nqo' among bam"),
        ("id\tnqo\n1\tߊ\n2\n".encode(), r"a\.tsv:3: 1 cells, the header has 2"),
        (b"nqo\n\xff\xfe\n", r"a\.tsv: .*not UTF-8"),
        (b"nqo\n", "0 lines to train on"),
    ],
)
def test_a_faulty_file_is_named_with_its_line(tmp_path, content, said):
    options = pretrain_settings(tmp_path, [])
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(CorpusError, match=said):
        read_open_text(options)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"b\.tsv: No such file"):
        read_open_text(PretrainSettings(text_root=str(tmp_path), text=["b.tsv"]))
