"""`thunder agp verify`: the field that does not match is named; other keys, changed logs, and tokens from files."""

from __future__ import annotations

import json

import pytest
from agp_command import BETTER, SURE, TEXT, agp, proposed, verified
from conftest import write_rows

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


@pytest.mark.parametrize("words, outcome", [
    (("--input", TEXT + " "), "mismatch:input"), (("--proposal", TEXT), "mismatch:proposal"),
    (("--output", TEXT), "mismatch:output"), (("--base", "b"), "mismatch:base"),
    (("--adapter", "a"), "mismatch:adapter"),
    (("--prompt", "p"), "mismatch:prompt"), (("--decoding", "d"), "mismatch:decoding"),
    (("--rules", "agp_rules_v1"), "mismatch:rules"), (("--row", "r1"), "mismatch:row"), ((), "ok"),
])  # fmt: skip
def test_the_field_that_does_not_match_is_named(capsys, tmp_path, rows, proposals, words, outcome):
    lines, _ = proposed(capsys, tmp_path, rows, proposals)
    found = verified(capsys, "--token", lines[0]["token"], *words, code=0 if outcome == "ok" else 4)
    assert found["token"] == outcome


def test_texts_and_tokens_from_files(capsys, tmp_path, rows, proposals):
    lines, _ = proposed(capsys, tmp_path, rows, proposals)
    (tmp_path / "token").write_text(lines[0]["token"] + "\n")
    (tmp_path / "text").write_text(TEXT, encoding="utf-8")
    assert verified(capsys, "--token", f"@{tmp_path / 'token'}", "--input", f"@{tmp_path / 'text'}")["token"] == "ok"
    (tmp_path / "text").write_text(TEXT + "\n", encoding="utf-8")
    words = ("--token", f"@{tmp_path / 'token'}", "--input", f"@{tmp_path / 'text'}")
    assert verified(capsys, *words, code=4)["token"] == "mismatch:input"
    assert agp("verify", "--token", "@none") == 2


def test_other_keys(capsys, tmp_path, rows, proposals, key):
    lines, _ = proposed(capsys, tmp_path, rows, proposals)
    token = lines[0]["token"]
    assert agp("key", "new") == 0 and "2 keys verify" in capsys.readouterr().out
    assert verified(capsys, "--token", token)["token"] == "ok"  # the retired key still verifies
    other = tmp_path / "other.json"
    assert agp("key", "new", "--file", other) == 0
    capsys.readouterr()
    assert verified(capsys, "--token", token, "--key-file", other, code=4)["token"] == "unknown_key"
    log = tmp_path / "runs" / "agp" / "provenance.jsonl"
    found = verified(capsys, "--log", log, "--key-file", other)
    assert (found["log"], found["signatures not checked"]) == ("ok", 5)
    key.chmod(0o644)
    assert agp("verify", "--token", token) == 2 and "chmod 600" in capsys.readouterr().err


def test_the_development_key(capsys, tmp_path, rows, proposals, monkeypatch):
    monkeypatch.delenv(keys.KEY_FILE_VARIABLE)
    assert agp("propose", rows, "--engine", f"file:{proposals}") == 2
    assert "--dev-key" in capsys.readouterr().err
    lines, _ = proposed(capsys, tmp_path, rows, proposals, "--dev-key")
    assert agp("verify", "--token", lines[0]["token"]) == 2  # there is no key to check it with
    capsys.readouterr()
    assert verified(capsys, "--token", lines[0]["token"], "--allow-dev")["token"] == "ok"
    other = tmp_path / "other.json"
    keys.add_new_key(other)
    assert verified(capsys, "--token", lines[0]["token"], "--key-file", other, code=4)["token"] == "dev_key"


def test_a_log_that_was_changed_and_a_token_that_is_not_in_it(capsys, tmp_path, rows, proposals):
    lines, _ = proposed(capsys, tmp_path, rows, proposals)
    log, other = tmp_path / "runs" / "agp" / "provenance.jsonl", tmp_path / "other.jsonl"
    proposed(capsys, tmp_path, rows, proposals, "--log", other)
    assert verified(capsys, "--log", other, "--token", lines[0]["token"], code=4)["token"] == "mismatch:record"
    log.write_bytes(log.read_bytes().replace(b'"edits":1', b'"edits":0', 3))
    found = verified(capsys, "--log", log, code=4)
    assert (found["log"], found["records"]) == ("chain_broken@1", 0) and "its digest does not match" in found["fault"]
    assert agp("propose", rows, "--engine", "identity") == 4  # nothing is added to it
    assert "provenance.jsonl:1: " in capsys.readouterr().err


def test_a_log_without_texts_holds_their_digests(capsys, tmp_path, rows, proposals):
    lines, _ = proposed(capsys, tmp_path, rows, proposals, "--no-log-texts")
    log = tmp_path / "runs" / "agp" / "provenance.jsonl"
    assert TEXT not in log.read_text(encoding="utf-8")
    assert verified(capsys, "--log", log, "--token", lines[0]["token"], "--input", TEXT)["token"] == "ok"
