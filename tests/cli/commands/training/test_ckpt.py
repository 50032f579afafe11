"""`thunder ckpt verify`: exit codes, and a byte changed in a file of the run that was just trained."""

import json

import planted_runs
import pytest

from thunder.cli.main import main
from thunder.runs.bundles import bundle


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path))
    return planted_runs.recognizer_run(tmp_path)


def test_what_did_not_run_is_said_and_strict_refuses(run, capsys):
    assert main(["ckpt", "verify", run.name]) == 0
    said = capsys.readouterr().out
    assert "skipped  best.safetensors, digests: no manifest speaks of it" in said
    assert "nothing wrong in 2 checks; 1 could not run" in said and "valid" not in said.lower()
    assert main(["ckpt", "verify", run.name, "--strict"]) == 3
    bundle.seal_bundle(run)
    assert main(["ckpt", "verify", run.name, "--strict"]) == 0


def test_a_flipped_bit_is_exit_code_4_and_names_the_tensor(run, capsys):
    bundle.seal_bundle(run)
    path = run / "best.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink()
    path.write_bytes(bytes(data))
    assert main(["ckpt", "verify", str(path)]) == 4
    assert "layer.2" in capsys.readouterr().err
    assert main(["ckpt", "verify", str(path), "--json"]) == 4
    (found,) = json.loads(capsys.readouterr().out)
    assert [check["state"] for check in found["checks"]] == ["ok", "fault", "ok"]
    path.write_bytes(bytes(data[:-40]))
    assert main(["ckpt", "verify", str(path)]) == 4


def test_mistakes_of_the_user(run, tmp_path):
    assert main(["ckpt", "verify", "nothing"]) == 2
    assert main(["ckpt", "verify", str(run / "train.log")]) == 2
