"""`thunder verify PATH`: every kind of artifact is recognized and really checked: one changed byte is exit code 4."""

from __future__ import annotations

import json

import planted_runs
import pytest
import tones
from conftest import make_rows, write_rows

from thunder.bridge.proof import keys
from thunder.cli.commands.records.verify import KINDS, artifact_kind
from thunder.cli.main import main
from thunder.errors import UsageError
from thunder.runs.bundles import bundle

TEXT, BETTER = "ߣߋߤߍߛߍߛߍ ߡߌ ߓ", "ߣߋߛߍߛߍ ߡߌ ߓ"


@pytest.fixture(autouse=True)
def runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def flip_last_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(data))


def sealed_run(tmp_path, runs_folder, capsys):
    run = planted_runs.recognizer_run(runs_folder)
    bundle.seal_bundle(run)
    return run.name, run / "best.safetensors"


def weights_file(tmp_path, runs_folder, capsys):
    name, weights = sealed_run(tmp_path, runs_folder, capsys)
    return weights, weights


def adapter(tmp_path, runs_folder, capsys):
    run = planted_runs.adapter_run(runs_folder)
    bundle.seal_bundle(run)
    return run / "adapters", run / "adapters" / "adapters.safetensors"


def corpus(tmp_path, runs_folder, capsys):
    pairs = [{"before": row["messages"][0]["content"], "after": row["messages"][1]["content"]} for row in make_rows(60)]
    rows = write_rows(tmp_path / "rows.jsonl", pairs)
    assert main(["corpus", "build", str(rows), "--out", str(tmp_path / "corpus")]) == 0
    return tmp_path / "corpus", tmp_path / "corpus" / "train.jsonl"


def feature_store(tmp_path, runs_folder, capsys):
    tones.recordings(tmp_path / "audio")
    out = tmp_path / "features"
    assert main(["asr", "features", str(tmp_path / "audio"), "--features", "logmel", "--out", str(out)]) == 0
    return out, next(out.rglob("*.safetensors"))


def decisions(tmp_path, monkeypatch):
    monkeypatch.setenv(keys.KEY_FILE_VARIABLE, str(tmp_path / "keys.json"))
    assert main(["agp", "key", "new", "--json"]) == 0
    rows = write_rows(tmp_path / "rows.jsonl", [{"feat_id": "r0", "asr_text": TEXT, "partition": "uncertain"}])
    proposal = {"id": "r0", "proposal": BETTER, "confidence": -0.05, "margin": 0.2}
    file, out = write_rows(tmp_path / "p.jsonl", [proposal]), tmp_path / "out.jsonl"
    assert main(["agp", "propose", str(rows), "--engine", f"file:{file}", "--out", str(out)]) == 0
    return json.loads(out.read_text(encoding="utf-8"))


ARTIFACTS = {
    "run": sealed_run,
    "weights file": weights_file,
    "adapter": adapter,
    "corpus": corpus,
    "feature store": feature_store,
}


@pytest.mark.parametrize("kind", ARTIFACTS)
def test_a_whole_artifact_passes_and_a_changed_byte_is_found(kind, tmp_path, runs_folder, capsys):
    path, weakest = ARTIFACTS[kind](tmp_path, runs_folder, capsys)
    capsys.readouterr()
    assert artifact_kind(str(path))[0] == kind
    assert main(["verify", str(path)]) == 0
    assert f"{path}: {kind}\n" in capsys.readouterr().out
    assert main(["verify", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(path), "kind": kind, "ok": True}
    flip_last_byte(weakest)
    assert main(["verify", str(path), "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["exit_code"] == 4
    assert main(["verify", str(path)]) == 4
    assert weakest.name in capsys.readouterr().err


def test_a_log_and_a_token(tmp_path, runs_folder, monkeypatch, capsys):
    line = decisions(tmp_path, monkeypatch)
    log, token = runs_folder / "agp" / "provenance.jsonl", tmp_path / "token"
    token.write_text(line["token"] + "\n")
    assert [artifact_kind(str(each))[0] for each in (log, token)] == ["provenance log", "admissibility token"]
    assert main(["verify", str(log), str(token)]) == 0
    # the signature's last characters: the first fault decides the exit code, and the other path is checked all the same
    token.write_text(line["token"][:-4] + "AAAA\n")
    assert main(["verify", str(token), str(log)]) == 4
    captured = capsys.readouterr()
    assert "bad_signature" in captured.err and f"{log}: provenance log" in captured.out
    log.write_bytes(log.read_bytes().replace(b"uncertain", b"uncertaim"))
    assert main(["verify", str(log)]) == 4


def test_what_is_no_artifact_is_refused_by_name(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("nothing\n")
    (tmp_path / "empty").mkdir()
    assert main(["verify", str(tmp_path / "notes.txt"), str(tmp_path / "empty")]) == 2
    assert main(["verify", "no-such-run"]) == 2
    assert "no-such-run" in capsys.readouterr().err
    with pytest.raises(UsageError, match="notes.txt: not a weights file"):
        artifact_kind(str(tmp_path / "notes.txt"))
    with pytest.raises(UsageError) as fault:
        artifact_kind(str(tmp_path / "empty"))
    assert all(kind in fault.value.message for kind in KINDS)
