"""`thunder report`: finds what is named, writes one file, says what is not in it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import write_rows

from thunder.cli.main import main


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    """Runs, one of them with metrics and nothing else."""
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    run = tmp_path / "runs" / "20260101-000000-a-0000"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("seed: 1\n")
    write_rows(run / "metrics.jsonl", [{"step": 1, "loss": 2.0}])
    (tmp_path / "runs" / "latest").symlink_to(run.name)
    return tmp_path / "runs"


@pytest.mark.parametrize("words", [[], ["latest"], ["20260101-000000-a-0000"]])
def test_a_run(runs, capsys, words):
    assert main(["report", *words]) == 0
    said = capsys.readouterr().out
    assert "missing: results.json is missing" in said and "report.html: 0 rows" in said
    assert "<!doctype html>" in (runs / "latest" / "report.html").read_text()


def test_json_and_another_place(runs, capsys, tmp_path):
    out = tmp_path / "new" / "page.html"
    assert main(["report", str(runs / "latest"), "--out", str(out), "--gate-cer", "0.3", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["page"] == str(out) and said["bytes"] == out.stat().st_size and len(said["absent"]) == 3


def test_an_evaluation(tmp_path, capsys):
    rows = write_rows(tmp_path / "r.jsonl", [{"id": "1", "before": "ߊ", "after": "ߋ"}])
    folder = tmp_path / "found"
    assert main(["eval", "--rows", str(rows), "--engine", "identity", "--out", str(folder)]) == 0
    first = (folder / "report.html").read_bytes()
    assert main(["report", str(folder)]) == 0
    assert (folder / "report.html").read_bytes() == first
    assert "not there" not in capsys.readouterr().out


@pytest.mark.parametrize("command", [["report"], ["agp", "report"]])
def test_a_log(tmp_path, capsys, command):
    """As the bridge itself writes one down."""
    rows = write_rows(tmp_path / "rows.jsonl", [{"id": "1", "before": "ߊߞߊ", "after": "ߊߞߋ"}])
    path = tmp_path / "provenance.jsonl"
    words = ["--engine", "identity", "--dev-key", "--log", str(path), "--out", str(tmp_path / "said.jsonl")]
    assert main(["agp", "propose", str(rows), *words]) == 0
    assert main([*command, str(path), "--rows", str(rows)]) == 0
    said = capsys.readouterr().out
    assert "provenance.html: 1 rows" in said and "not there" not in said
    assert "ok, 1 lines" in (tmp_path / "provenance.html").read_text()


def test_nothing_is_written_into_a_sealed_run(runs, capsys, tmp_path):
    (runs / "latest" / "manifest.json").write_text("{}")
    assert main(["report", "latest"]) == 2
    assert "is sealed" in capsys.readouterr().err and not (runs / "latest" / "report.html").exists()
    assert main(["report", "latest", "--out", str(tmp_path / "page.html")]) == 0


@pytest.mark.parametrize("words, said", [
    (["nothing"], "there is no run 'nothing'"), (["latest", "--rows", "x"], "--rows cannot be used with a run"),
    (["latest", "--gate-cer", "-1"], "gate_cer"),
])  # fmt: skip
def test_what_cannot_be(capsys, words, said):
    assert main(["report", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.expensive
def test_help_does_without_the_heavy_packages():
    code = (
        "import sys\nfrom thunder.cli.main import main\nmain(['report', '--help'])\n"
        "print(sorted({'altair', 'vl_convert', 'jinja2', 'mlx', 'numpy'} & set(sys.modules)), file=sys.stderr)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert said.stderr.strip() == "[]"
