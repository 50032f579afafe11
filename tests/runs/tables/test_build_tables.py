"""Tables: each number is computed from the rows, and runs that cannot be compared are in a section of their own."""

from __future__ import annotations

import csv
import json
import shutil
import statistics

import planted_runs
import pytest
from planted_tables import SPEC, build, cells, cer_of, sealed_runs_and_spec

from thunder.errors import GateError, UsageError
from thunder.runs.bundles import bundle


@pytest.fixture
def root(tmp_path):
    return sealed_runs_and_spec(tmp_path)


def test_numbers_are_those_of_the_rows(root):
    build(root)
    rates = [cer_of(root, f"base-{seed}") for seed in (1, 2, 3)]
    wanted = f"{100 * statistics.fmean(rates):.2f} ± {100 * statistics.stdev(rates):.2f}"
    assert cells(root)["paper/base/cer"]["text"] == wanted
    assert cells(root)["paper/fast/cer@novelty"]["text"] == f"{100 * cer_of(root, 'fast-1', 'novelty'):.2f}"
    assert (cells(root)["paper/base/rows"]["text"], cells(root)["paper/base/runs"]["text"]) == ("20", "3")
    markdown = (root / "out" / "paper.md").read_text()
    assert (
        f"| base | {wanted} |" in markdown and "in per cent" in markdown and "**What the modes are worth**" in markdown
    )
    rows = list(csv.DictReader((root / "out" / "paper.csv").read_text().splitlines()))
    assert float(rows[0]["cer"]) == pytest.approx(statistics.fmean(rates), abs=1e-8)
    assert [row["comparable"] for row in rows] == ["yes", "yes", "no"] and rows[2]["cer sd"] == ""
    assert wanted.replace("±", r"$\pm$") in (root / "out" / "paper.tex").read_text()


def test_what_cannot_be_compared_stands_apart(root):
    build(root)
    text = (root / "out" / "paper.md").read_text()
    before, _, after = text.partition("Not comparable with base:")
    assert "| fast [1] |" in after and "| traj |" in before and "fast" not in before
    assert "lr (0.0003 vs 0.001)" in after and "cannot attribute" in after
    assert r"\emph{Not comparable with base}" in (root / "out" / "paper.tex").read_text()


def test_a_warning_is_a_footnote(root):
    run = root / "traj-2"
    for name in ("environment.json", "manifest.json"):
        said = json.loads((run / name).read_text())
        (run / name).unlink()
    planted_runs.write_json(run / "environment.json", {"versions": {"thunder": "0.2.0"}, "chip": "x",
                            "commit": "c" * 40, "data_sha256": {"features": "f" * 64}})  # fmt: skip
    assert said["run"] == run.name and bundle.seal_bundle(run)
    build(root)
    text = (root / "out" / "paper.md").read_text()
    assert "| traj [1] [2] |" in text.partition("Not comparable")[0] and "version of thunder (0.1.0 vs 0.2.0)" in text


def test_only_sealed_runs_are_evidence(root):
    planted_runs.recognizer_run(root, "fast-2", seed=2, learning_rate=1e-3)
    (root / "tables.yaml").write_text(SPEC.replace("[fast-1]", "[fast-1, fast-2, fast-9]"))
    with pytest.raises(GateError, match="fast-2: it is not sealed\n.*fast-9: there is no run"):
        build(root)
    assert not (root / "out").exists()


def test_one_run_twice_is_no_two_seeds(root):
    shutil.copytree(root / "fast-1", root / "copy-1")
    (root / "copy-1" / "manifest.json").unlink()
    bundle.seal_bundle(root / "copy-1")
    (root / "tables.yaml").write_text(SPEC.replace("[fast-1]", "[fast-1, copy-1]"))
    with pytest.raises(GateError, match="the same answers to the same rows"):
        build(root)


def test_two_seeds_with_the_same_answers_are_two_runs(root):
    for seed in (7, 8):
        bundle.seal_bundle(planted_runs.recognizer_run(root, f"right-{seed}", seed=seed, harm=0, rows=20))
    (root / "tables.yaml").write_text(SPEC.replace("[fast-1]", "[right-7, right-8]"))
    build(root)
    assert cells(root)["paper/fast/cer"]["text"] == "0.00 ± 0.00"


def test_a_misspelt_declaration(root):
    (root / "tables.yaml").write_text(SPEC.replace("allow: [mode]", "allow: [moed]"))
    with pytest.raises(UsageError, match="Did you mean 'mode'"):
        build(root)


def test_a_correctors_rows_have_their_own_metrics(tmp_path):
    run = planted_runs.adapter_run(tmp_path)
    bundle.seal_bundle(run)
    columns = "[cer_before, cer_after, cer, cer@novelty]"
    spec = f"runs:\n  a: [{run.name}]\ntables:\n  - {{name: t, rows: [a], columns: {columns}}}\n"
    (tmp_path / "tables.yaml").write_text(spec)
    build(tmp_path)
    test = json.loads((run / "results.json").read_text())["test"]
    lock = json.loads((tmp_path / "tables.lock.json").read_text())["cells"]
    assert lock["t/a/cer_before"]["text"] == f"{100 * test['cer_before']:.2f}"
    assert lock["t/a/cer_after"]["text"] == lock["t/a/cer"]["text"] == f"{100 * test['cer_after']:.2f}"
    assert lock["t/a/cer@novelty"]["text"] == "-", "no row is of that partition"
