"""`thunder drift`: exit codes and what is said."""

import json

import planted_runs
from conftest import REPOSITORY

from thunder.cli.main import main

NOTE = REPOSITORY / "tests" / "fixtures" / "note000"


def test_the_published_pair_is_exit_code_3(capsys):
    pair = [str(NOTE / "anchor"), str(NOTE / "safe")]
    assert main(["drift", *pair]) == 3
    said = capsys.readouterr()
    assert "FACTOR   regime       lr (0.0003 vs 0.0001)" in said.out and "cannot attribute" in said.err
    assert main(["drift", *pair, "--json"]) == 3
    assert "use_ttt" in json.loads(capsys.readouterr().out)["factors"]
    assert main(["drift", *pair, "--allow", "lr,mode", "--allow", "patience,use_ttt", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["factors"]) == ("comparable_with_warnings", [])


def test_the_same_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path))
    run = planted_runs.recognizer_run(tmp_path)
    assert main(["drift", run.name, run.name]) == 0
    assert capsys.readouterr().out.startswith("comparable: ")
    assert main(["drift", run.name, run.name, "--allow", "lrr"]) == 2
    assert main(["drift", run.name, "nothing"]) == 2
