"""`thunder bundle`: exit codes and what is said."""

import json
import shutil

import planted_runs
import pytest

from thunder.cli.main import main


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path))
    return planted_runs.recognizer_run(tmp_path)


def test_verify_and_seal(run, capsys):
    assert main(["bundle", "verify", run.name]) == 0
    said = capsys.readouterr().out
    assert "12 rows recomputed" in said and "not sealed" in said and "skipped: digests" in said
    assert main(["bundle", "seal", run.name]) == 0
    sha256 = capsys.readouterr().out.split()[-1]
    assert main(["bundle", "verify", str(run), "--digest", sha256, "--json"]) == 0
    (verdict,) = json.loads(capsys.readouterr().out)
    assert (verdict["sealed"], verdict["faults"], verdict["rows"]) == (sha256, [], 12)
    assert main(["bundle", "verify", str(run), "--digest", "0" * 64]) == 4


def test_a_tampered_row_is_exit_code_4_and_named(run, capsys):
    rows = planted_runs.read_jsonl(run / "test_predictions.jsonl")
    rows[7]["cer_edits"] += 1
    planted_runs.write_jsonl(run / "test_predictions.jsonl", rows)
    assert main(["bundle", "verify", run.name]) == 4
    assert "'utterance-0007'" in capsys.readouterr().err
    assert main(["bundle", "verify", run.name, "--json"]) == 4
    assert "'utterance-0007'" in json.loads(capsys.readouterr().out)[0]["faults"][0]
    assert main(["bundle", "seal", run.name]) == 4


def test_mistakes_of_the_user(run, tmp_path, capsys):
    assert main(["bundle", "verify", "no-such-run"]) == 2
    assert run.name in capsys.readouterr().err
    assert main(["bundle", "verify", run.name, "--remote", f"localhost:{tmp_path}"]) == 4, "it has no manifest"
    main(["bundle", "seal", run.name])
    assert main(["bundle", "verify", run.name, "--remote", "host-without-folder"]) == 2


def test_a_copy_elsewhere(run, tmp_path, capsys):
    main(["bundle", "seal", run.name])
    copy = shutil.copytree(run, tmp_path / "there" / "a copy")
    remote = ["bundle", "verify", run.name, "--remote", f"localhost:{copy}"]
    assert main(remote) == 0
    assert main(["bundle", "seal", run.name, "--remote", f"localhost:{copy}"]) == 0
    assert main(["bundle", "seal", run.name, run.name, "--remote", f"localhost:{copy}"]) == 2
    (copy / "vocab.json").unlink()
    (copy / "vocab.json").write_text("{}")
    (copy / "run.log").unlink()
    assert main(remote) == 4
    said = capsys.readouterr().err
    assert main(["bundle", "seal", run.name, "--json", *remote[-2:]]) == 4
    told = json.loads(capsys.readouterr().out)
    assert "manifest sha256" in told["error"] and "vocab.json: differs on localhost" in told["error"]
    assert "vocab.json: differs on localhost" in said and "run.log: is missing on localhost" in said
    assert main([*remote[:-1], f"localhost:{tmp_path / 'nowhere'}"]) == 6
