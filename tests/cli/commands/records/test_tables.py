"""`thunder tables`: exit codes and what is said."""

import json

import planted_runs

from thunder.cli.main import main
from thunder.runs.bundles import bundle


def test_build_check_and_a_changed_digit(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    run = planted_runs.recognizer_run(tmp_path / "runs")
    spec = tmp_path / "tables.yaml"
    spec.write_text(f"runs:\n  a: [{run.name}]\ntables:\n  - {{name: t, rows: [a], columns: [cer]}}\n")
    command = ["tables", "build", "--spec", str(spec)]
    assert main(command) == 3, "not sealed"
    bundle.seal_bundle(run)
    assert main(command) == 0
    check = ["tables", "check", "--spec", str(spec)]
    assert main(check) == 0
    assert "1 cells match their runs" in capsys.readouterr().out
    text = (tmp_path / "t.md").read_text()
    place = text.index(".", text.index("| a |")) + 1
    (tmp_path / "t.md").write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
    assert main(check) == 3
    assert "t/a/cer: changed by hand" in capsys.readouterr().err
    assert main(["tables", "build", "--spec", str(spec), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 4
    assert main(["tables", "check", "--spec", str(tmp_path / "none.yaml")]) == 2
