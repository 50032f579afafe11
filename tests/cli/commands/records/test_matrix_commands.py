"""The matrix command: check, plan, a dry run and status of a small matrix."""

from __future__ import annotations

import json

from planted_matrix import DEFINITIONS, FINE

from thunder.cli.main import main


def test_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    file = tmp_path / "m.json"
    file.write_text(json.dumps(FINE))
    (tmp_path / "modes.md").write_text(DEFINITIONS)
    assert main(["matrix", "check", str(file)]) == 0
    assert main(["matrix", "plan", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert (len(said["runs"]), said["hours"], said["usd"]) == (9, 18, 9)
    assert said["runs"][0]["command"][-2:] == ["--seed", "1"]
    assert main(["matrix", "run", str(file), "--dry-run", "--only", "traj", "--cluster", "local"]) == 0
    out = capsys.readouterr().out
    assert "on local-0, local-1" in out and out.count("--run-name small.traj-s") == 3
    assert main(["matrix", "run", str(file), "--only", "nothing"]) == 2
    assert main(["matrix", "resume", str(file)]) == 2, "nothing was run yet"
    assert main(["matrix", "status", str(file), "--json"]) == 0
    assert not (tmp_path / "runs").exists(), "looking changes nothing"
