"""`thunder runs`: what is listed, grouped and shown."""

import json
import statistics

import planted_runs
import pytest

from thunder.cli.main import main


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path))
    for number, mode in enumerate(["baseline", "baseline", "tar"]):
        planted_runs.recognizer_run(tmp_path, f"2026010{number + 1}-120000-r-{number:04}", seed=number, mode=mode)
    return tmp_path


def test_list_and_filter(root, capsys):
    assert main(["runs", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0][-1] for line in lines[1:]] == ["2", "1", "0"] and "400/400" in lines[1]
    assert main(["runs", "filter", "mode=baseline", "seed>0", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert run["options"]["seed"] == 1
    assert main(["runs", "list", "mode=none"]) == 0
    assert "no run in" in capsys.readouterr().out
    assert main(["runs", "list", "mode"]) == 2


def test_table(root, capsys):
    assert main(["runs", "table", "--by", "mode,use_ttt", "--json"]) == 0
    baseline, tar = json.loads(capsys.readouterr().out)
    rates = [json.loads((run / "results.json").read_text())["test"]["cer"] for run in sorted(root.glob("2026*"))]
    assert (baseline["mode"], baseline["use_ttt"], baseline["runs"]) == ("baseline", "False", 2)
    assert baseline["mean"] == pytest.approx(sum(rates[:2]) / 2) and baseline["sd"] == statistics.stdev(rates[:2])
    assert tar["sd"] is None
    assert main(["runs", "table", "--by", "mode"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_show(root, capsys):
    assert main(["runs", "show", "20260103-120000-r-0002"]) == 0
    assert "mode                       tar" in capsys.readouterr().out
    assert main(["runs", "show", "20260103-120000-r-0002", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["options"]["mode"] == "tar"
    assert main(["runs", "show", "nothing"]) == 2
    assert main(["runs", "rebuild"]) == 0
    assert "3 runs" in capsys.readouterr().out
