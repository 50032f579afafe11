"""`thunder eval`: one JSON object, folders that are not overwritten, half-done evaluations, what does not fit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY, make_rows, write_rows

from thunder.cli.main import main
from thunder.evaluation.proposal_ledger import PARTIAL_FILE
from thunder.runs.records import registry

FIXTURES = REPOSITORY / "tests" / "fixtures"
ASKED = {
    "rows", "cer_before", "cer_after", "cer_before_grapheme", "cer_after_grapheme", "cer_after_toneless", "improved",
    "neutral", "worse", "worse_upper95", "exact_before", "exact_after",
}  # fmt: skip


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def evaluate(*words):
    return main(["eval", *map(str, words)])


def printed(capsys, *words):
    assert evaluate(*words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *words, code=2):
    assert evaluate(*words) == code
    return capsys.readouterr().err


@pytest.fixture
def pairs(tmp_path):
    rows = [{"id": f"p{n}", "before": "ߊߋ" * (n + 1), "after": "ߊߌ" * (n + 1)} for n in range(6)]
    return write_rows(tmp_path / "pairs.jsonl", rows)


def test_one_json_object_with_the_keys_that_were_asked_for(capsys, runs):
    file = FIXTURES / "synthetic.jsonl"
    got = printed(capsys, "--rows", file, "--engine", f"file:{file}")
    assert got.keys() >= ASKED
    assert (got["rows"], got["improved"], got["neutral"], got["worse"]) == (8, 3, 5, 0)
    [folder] = runs.iterdir()
    assert json.loads((folder / "results.json").read_text()) == got
    assert len((folder / "predictions.jsonl").read_text().splitlines()) == 8
    assert (folder / "report.html").exists() and not (folder / PARTIAL_FILE).exists()
    assert registry.recent_runs(runs) == []  # it is no run that could go on


@pytest.mark.parametrize("name, words", [
    ("smoke", ["0.1429 -> 0.0476", "2 improved, 0 neutral, 0 worse", "at most 77.6% worse"]),
    ("synthetic", ["0.1333 -> 0.1000", "3 improved, 5 neutral, 0 worse", "at most 31.2% worse"]),
    ("real", ["0.7604 -> 0.7512", "1 improved, 0 neutral, 0 worse of 1 accepted", "at most 95.0% worse"]),
])  # fmt: skip
def test_lines_for_people(capsys, name, words):
    file = FIXTURES / f"{name}.jsonl"
    assert evaluate("--rows", file, "--engine", f"file:{file}") == 0
    said = capsys.readouterr().out
    assert all(each in said for each in words)


def test_the_limit_and_files_of_all_rows(capsys, pairs, tmp_path):
    proposals = write_rows(tmp_path / "p.jsonl", [{"id": f"p{n}", "proposal": "ߊߌ" * (n + 1)} for n in range(6)])
    got = printed(capsys, "--rows", pairs, "--limit", 2, "--engine", f"file:{proposals}", "--out", tmp_path / "o")
    assert (got["rows"], got["edits_before"], got["edits_after"]) == (2, 3, 0)


def test_dry_run_writes_nothing(capsys, pairs, tmp_path):
    assert evaluate("--rows", pairs, "--dry-run", "--out", tmp_path / "o") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 6
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("words, fault", [
    ((), "'rows' Field required"), (("--rows", "none.jsonl"), "No such file"),
    (("--rows", "PAIRS", "--engine", "gpt"), "no such engine"),
    (("--rows", "PAIRS", "--engine", "file"), "no such engine"),
    (("--rows", "PAIRS", "--engine", "oracle", "--model", "x"), "uses no model"),
    (("--rows", "PAIRS", "--compare", "base"), "no adapter to compare"),
    (("--rows", "PAIRS", "--compare", "other"), "'compare' should be"),
    (("--rows", "PAIRS", "--adapter-path", "none"), "not an adapter folder"),
    (("--rows", "PAIRS", "--model", "./none"), "no such folder"),
    (("--rows", "PAIRS", "--resume"), "no unfinished evaluation"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(capsys, pairs, words, fault):
    said = refused(capsys, *(str(pairs) if word == "PAIRS" else word for word in words))
    assert fault in said and "Traceback" not in said


def test_faulty_rows_are_listed_together(capsys, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"before": "a", "after": 3}\n{"before": "a"\n{"x": 1}\n\xff\n')
    said = refused(capsys, "--rows", path, "--engine", "identity")
    assert all(f"bad.jsonl:{number}: " in said for number in (1, 2, 3, 4))


def test_a_finished_folder_is_not_overwritten(capsys, pairs, tmp_path):
    words = ("--rows", pairs, "--engine", "identity", "--out", tmp_path / "o")
    printed(capsys, *words)
    assert "holds a finished evaluation" in refused(capsys, *words)


def test_a_half_done_one_goes_on_by_name_only_and_as_it_was(capsys, pairs, tmp_path, monkeypatch):
    from thunder.evaluation.engines import IdentityEngine

    out = tmp_path / "o"
    words = ("--rows", pairs, "--engine", "identity", "--out", out)

    def interrupted(self, cases, finished=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(IdentityEngine, "propose", interrupted)
        assert f"eval --resume {out}" in refused(capsys, *words, code=130)
    assert "holds an unfinished evaluation" in refused(capsys, *words)
    assert "engine was 'identity' and is 'oracle'" in refused(capsys, *words, "--resume", "--engine", "oracle")
    assert "limit was 0 and is 3" in refused(capsys, "--resume", out, "--limit", 3)
    pairs.write_text(pairs.read_text() + "\n")
    assert "rows_sha256 was" in refused(capsys, "--resume", out)
    pairs.write_text(pairs.read_text()[:-1])
    assert printed(capsys, "--resume", out)["neutral"] == 6


@pytest.mark.expensive
def test_a_model_is_interrupted_and_goes_on(tmp_path, tiny_model, capsys):
    """By Ctrl-C, in a process of its own: the same texts as of an evaluation that was not interrupted."""
    rows = write_rows(tmp_path / "rows.jsonl", make_rows(24, seed=2, longest=6))
    words = ["--rows", str(rows), "--model", str(tiny_model), "--batch-size", "1"]
    command = [sys.executable, "-P", "-m", "thunder", "eval", *words, "--out", str(tmp_path / "cut")]
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 90
        while not lines(tmp_path / "cut" / PARTIAL_FILE) and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and b"--resume" in said and b"Traceback" not in said
    again = printed(capsys, "--resume", tmp_path / "cut", "--batch-size", 5)
    assert 8 <= again["resumed_after"] < 24
    whole = printed(capsys, *words[:-1], "16", "--out", tmp_path / "whole")
    texts = [
        [json.loads(line)["proposal"] for line in (tmp_path / name / "predictions.jsonl").read_text().splitlines()]
        for name in ("cut", "whole")
    ]
    assert texts[0] == texts[1] and again["edits_after"] == whole["edits_after"]


def lines(path: Path) -> int:
    """Whole lines after the first."""
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


@pytest.mark.expensive
def test_the_entry_of_its_own(pairs, tmp_path):
    script = REPOSITORY / "scripts" / "eval_agp_nko_adapter.py"
    command = [sys.executable, script, "--rows", pairs, "--engine", "oracle", "--json", "--out", tmp_path / "o"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True, env=os.environ)
    assert json.loads(done.stdout)["exact_after"] == 6


@pytest.mark.expensive
def test_base_and_adapter_side_by_side(capsys, pairs, tmp_path, tiny_model, adapter):
    words = ("--rows", pairs, "--limit", 3, "--model", tiny_model)
    both = printed(capsys, *words, "--adapter-path", adapter)
    alone = printed(capsys, *words, "--adapter-path", adapter, "--compare", "none")
    base = printed(capsys, *words)
    assert both["cer_after"] == alone["cer_after"] != base["cer_after"] == both["base"]["cer_after"]
    assert "base" not in alone and "base" not in base
    assert both["adapter_over_base"]["cer_before"] == base["cer_after"]
    assert both["ground"]["adapter_does_nothing"] is False and both["ground"]["limit"] == 3


def test_an_adapter_of_another_base_is_refused(capsys, pairs, adapter):
    said = refused(capsys, "--rows", pairs, "--adapter-path", adapter)
    assert "an adapter of another base: trained on tiny" in said


UNUSUAL = [
    {"id": "a", "before": " ߊߋ\u200b ", "after": "ߊߋ"},
    {"id": "b", "before": "ߊ،\u202fߋ", "after": "ߊ߸ ߋ"},
    {"id": "c", "before": "ߊ 12", "after": "ߊ ߁߂"},
]


def test_normalized_scoring_is_named_and_unusual_characters_are_counted(capsys, tmp_path):
    """Outer space never counts; the others count as edits by default, and do not with --normalize nko."""
    rows = write_rows(tmp_path / "rows.jsonl", UNUSUAL)
    plain = printed(capsys, "--rows", rows, "--engine", "identity")
    assert plain["edits_before"] == 1 + 2 + 2 and plain["normalize"]["name"] == "none"
    names = " ".join(plain["characters"]["input"])
    assert all(part in names for part in ("Cf U+200B ZERO WIDTH SPACE", "U+202F", "U+060C ARABIC COMMA", "U+0031"))
    loose = printed(capsys, "--rows", rows, "--engine", "identity", "--normalize", "nko", "--out", tmp_path / "loose")
    assert loose["edits_before"] == 0 and loose["normalize"]["name"] == "nko"
    assert any("U+200B" in rule for rule in loose["normalize"]["rules"])


def test_the_corpus_command_counts_edits_as_the_evaluation_does(capsys, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", UNUSUAL)
    evaluated = printed(capsys, "--rows", rows, "--engine", "identity")
    assert main(["corpus", "validate", str(rows), "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)
    assert told["cer"] == evaluated["cer_before"]
    assert "Cf U+200B ZERO WIDTH SPACE" in json.dumps(told)
