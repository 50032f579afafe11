"""`thunder agp`: keys, rows of a file over the bridge, and what can be verified afterwards."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from agp_command import BETTER, SURE, TEXT, agp, proposed, verified
from conftest import REPOSITORY, write_rows

from thunder.bridge.proof import keys
from thunder.cli.main import main


@pytest.fixture(autouse=True)
def key(tmp_path, monkeypatch, capsys):
    path = tmp_path / "keys.json"
    monkeypatch.setenv(keys.KEY_FILE_VARIABLE, str(path))
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    assert main(["agp", "key", "new", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["keys"] == 1
    return path


@pytest.fixture
def rows(tmp_path):
    partitions = ("uncertain", "boundary", "stable", "novelty", None)
    made = [
        {"feat_id": f"r{number}", "asr_text": TEXT, "reference_text": BETTER}
        | ({"partition": partition} if partition else {})
        for number, partition in enumerate(partitions)
    ]
    return write_rows(tmp_path / "rows.jsonl", made)


@pytest.fixture
def proposals(tmp_path):
    return write_rows(tmp_path / "p.jsonl", [{"id": f"r{n}", "proposal": BETTER, **SURE} for n in range(5)])


def test_rows_of_a_file_over_the_bridge(capsys, tmp_path, rows, proposals):
    lines, told = proposed(capsys, tmp_path, rows, proposals)
    assert told == {"rows": 5, "accept": 2, "reject": 3, "keep": 0, "tokens": 2, "breaker": None}
    assert [line["decision"] for line in lines] == ["accept", "accept", "reject", "reject", "reject"]
    assert [line["final_text"] for line in lines] == [BETTER, BETTER, TEXT, TEXT, TEXT]
    assert [(line["partition"], line["partition_source"]) for line in lines][3:] == [
        ("novelty", "given"), ("novelty", "missing")]  # fmt: skip
    log = tmp_path / "runs" / "agp" / "provenance.jsonl"
    token, texts = lines[0]["token"], ("--input", TEXT, "--proposal", BETTER, "--output", BETTER)
    found = verified(capsys, "--log", log, "--token", token, *texts, "--row", "r0")
    assert (found["log"], found["token"], found["records"]) == ("ok", "ok", 5)


@pytest.mark.expensive
def test_the_decisions_can_be_evaluated(capsys, tmp_path, rows, proposals):
    proposed(capsys, tmp_path, rows, proposals)
    words = ["eval", "--rows", rows, "--engine", f"file:{tmp_path / 'out.jsonl'}", "--json", "--out", tmp_path / "e"]
    assert main([str(word) for word in words]) == 0
    got = json.loads(capsys.readouterr().out)
    assert (got["accepted"], got["improved"], got["worse"], got["exact_after"]) == (2, 2, 0, 2)
    assert got["worse_upper95"] == pytest.approx(1 - 0.05**0.5)


def test_a_batch_that_is_stopped(capsys, tmp_path):
    row = {"asr_text": TEXT, "reference_text": BETTER, "partition": "uncertain"}
    rows = write_rows(tmp_path / "rows.jsonl", [{"feat_id": f"r{n}", **row} for n in range(20)])
    proposals = write_rows(tmp_path / "p.jsonl", [{"id": f"r{n}", "proposal": BETTER, **SURE} for n in range(20)])
    out = tmp_path / "o.jsonl"
    assert agp("propose", rows, "--engine", f"file:{proposals}", "--out", out) == 3
    said = capsys.readouterr()
    assert "20 of 20 rows would be changed" in said.err and "0 are admissible" in said.out
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert all((line["decision"], line["token"], line["final_text"]) == ("reject", None, TEXT) for line in lines)
    assert verified(capsys, "--log", tmp_path / "runs" / "agp" / "provenance.jsonl")["records"] == 20


@pytest.mark.parametrize("words, fault", [
    (("propose", "none.jsonl", "--engine", "identity"), "No such file"), (("verify",), "nothing to check"),
    (("verify", "--log", "none.jsonl"), "No such file"), (("propose", "ROWS", "--engine", "oracle"), "no such engine"),
    (("propose", "ROWS", "--engine", "file:none"), "No such file"),
    (("propose", "ROWS", "--engine", "mlx", "--model", "./none"), "no such folder"),
    (("propose", "ROWS", "--engine", "identity", "--key-file", "none"), "No such file"),
])  # fmt: skip
def test_what_cannot_be_done(capsys, rows, words, fault):
    assert agp(*(rows if word == "ROWS" else word for word in words)) in (2, 4)
    said = capsys.readouterr().err
    assert fault in said and "Traceback" not in said


def test_the_decisions_overwrite_nothing(capsys, tmp_path, rows, proposals):
    log = tmp_path / "l.jsonl"
    words = ("propose", rows, "--engine", f"file:{proposals}", "--log", log, "--out")
    before = rows.read_bytes(), proposals.read_bytes()
    other = tmp_path / "x"
    other.symlink_to(rows)
    for out, said in ((rows, "the rows"), (log, "the log"), (proposals, "proposals"), (tmp_path, "a folder"),
                      (tmp_path / "keys.json", "this file holds keys"),
                      (rows / "x", "no folder that can be written"), (other, "the rows")):  # fmt: skip
        assert agp(*words, out) == 2
        assert said in capsys.readouterr().err
    assert not log.exists() and (rows.read_bytes(), proposals.read_bytes()) == before


def test_rows_without_references_can_be_proposed_for(capsys, tmp_path, proposals):
    made = [{"feat_id": f"r{n}", "asr_text": TEXT, "partition": "uncertain"} for n in range(4)]
    rows = write_rows(tmp_path / "bare.jsonl", [*made, made[0] | {"feat_id": "r4", "reference_text": None}])
    lines, told = proposed(capsys, tmp_path, rows, proposals)
    assert told["accept"] == 5 and lines[0]["final_text"] == BETTER


def test_the_model_and_its_digests_are_bound(capsys, tmp_path, rows, tiny_model):
    from thunder.lora import base_model

    out = tmp_path / "o.jsonl"
    assert agp("propose", rows, "--model", tiny_model, "--out", out) == 0
    [line, *_] = [json.loads(each) for each in out.read_text(encoding="utf-8").splitlines()]
    assert line["confidence"] <= 0 and line["proposal"] != TEXT
    log = tmp_path / "runs" / "agp" / "provenance.jsonl"
    record = json.loads(log.read_text(encoding="utf-8").splitlines()[0])["record"]
    assert (record["base_digest"], record["adapter_digest"]) == (base_model.base_digest(tiny_model), None)


@pytest.mark.expensive
def test_help_and_verification_need_no_mlx():
    code = (
        "import sys\nfrom thunder.cli.main import main\nmain(['agp', 'serve', '--help'])\n"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('mlx', 'mlx_lm', 'starlette', 'uvicorn')]\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, timeout=60, text=True,
                          env={"PYTHONPATH": str(REPOSITORY)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--linger-ms" in done.stdout and "--bearer-file" in done.stdout
