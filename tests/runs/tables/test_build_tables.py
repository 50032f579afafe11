"""Tables: numbers are the rows', what cannot be compared stands apart, and every hand's touch is named by its cell."""

from __future__ import annotations

import csv
import json
import shutil
import statistics

import planted_runs
import pytest
from planted_runs import read_jsonl

from thunder.errors import ConfigError, GateError, UsageError
from thunder.runs.bundles import bundle
from thunder.runs.records import run_record
from thunder.runs.tables import render_tables, table_files, table_spec

SPEC = """schema: thunder.tables/1
out: out
runs:
  base: [base-1, base-2, base-3]
  traj: [traj-1, traj-2]
  fast: [fast-1]
tables:
  - name: paper
    title: What the modes are worth
    baseline: base
    allow: [mode]
    rows: [base, traj, fast]
    columns: [cer, cer@novelty, wer, rows, runs]
prose:
  - {source: paper.md.in, target: paper.md}
"""
PROSE = "The baseline reaches {{cer:base}} %.\n\nOn novelty it is {{ cer@novelty : base }} % of {{rows:fast}} rows.\n"


@pytest.fixture
def root(tmp_path):
    """Six sealed runs of three kinds, a spec of one table, and a text; `fast` has another learning rate."""
    for name, options in (("base", {}), ("traj", {"mode": "trajectory"}), ("fast", {"learning_rate": 1e-3})):
        for seed in range(1, {"base": 4, "traj": 3, "fast": 2}[name]):
            harm = {"base": 0.4, "traj": 0.2, "fast": 0.1}[name]
            run = planted_runs.recognizer_run(tmp_path, f"{name}-{seed}", seed=seed, harm=harm, rows=20, **options)
            bundle.seal_bundle(run)
    (tmp_path / "tables.yaml").write_text(SPEC, encoding="utf-8")
    (tmp_path / "paper.md.in").write_text(PROSE, encoding="utf-8")
    return tmp_path


def find(root):
    return lambda name: run_record.find_run(root, name)


def build(root):
    return table_files.build_table_files(root / "tables.yaml", find(root))


def faults(root):
    with pytest.raises(GateError) as error:
        table_files.check_table_files(root / "tables.yaml", find(root))
    return error.value.message


def cer_of(root, run, partition=None):
    """Recomputed here, from the rows' texts."""
    rows = [row for row in read_jsonl(root / run / "test_predictions.jsonl") if partition in (None, row["partition"])]
    edits = sum(planted_runs.levenshtein(row["asr_text"], row["reference_text"]) for row in rows)
    return edits / sum(len(row["reference_text"]) for row in rows)


def cells(root):
    return json.loads((root / "out" / "tables.lock.json").read_text())["cells"]


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


def test_numbers_in_prose(root):
    build(root)
    rates = [100 * cer_of(root, f"base-{seed}") for seed in (1, 2, 3)]
    assert f"reaches {statistics.fmean(rates):.2f} %." in (root / "paper.md").read_text()
    assert "of 20 rows." in (root / "paper.md").read_text()
    assert "prose/base/cer" in cells(root)


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


def test_a_second_build_is_the_same_to_the_last_byte(root):
    first = {path: path.read_bytes() for path in build(root)}
    assert len(first) == 5
    assert {path: path.read_bytes() for path in build(root)} == first
    assert table_files.check_table_files(root / "tables.yaml", find(root)) == len(cells(root))


def digits_of(path):
    """(line number, place) of every digit in a file."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return [(at, place) for at, line in enumerate(lines) for place, sign in enumerate(line) if sign.isdigit()]


@pytest.mark.expensive
@pytest.mark.parametrize("name", ["out/paper.md", "out/paper.csv", "out/paper.tex", "paper.md"])
def test_any_digit_that_is_changed_is_found_and_a_cell_named(root, name):
    build(root)
    path = root / name
    whole = path.read_text(encoding="utf-8")
    digits = digits_of(path)
    for at, place in digits[:: max(1, len(digits) // 10)]:
        lines = whole.split("\n")
        line = lines[at]
        lines[at] = line[:place] + str((int(line[place]) + 1) % 10) + line[place + 1 :]
        path.write_text("\n".join(lines), encoding="utf-8")
        said = faults(root)
        assert f"{name}:{at + 1}: " in said and "changed by hand" in said
        is_row = line.startswith(("| base", "| traj", "base,", "traj,", "base &", "traj &"))
        assert not is_row or any(f"{row}" in said for row in ("paper/base", "paper/traj")), said


def test_a_hand_edit_is_named_by_its_cell_alone(root):
    build(root)
    path = root / "out" / "paper.md"
    line = next(line for line in path.read_text().split("\n") if line.startswith("| traj "))
    fields = line.split(" | ")
    path.write_text(path.read_text().replace(line, " | ".join([*fields[:2], "0.01", *fields[3:]])))
    said = faults(root)
    assert "paper/traj/cer@novelty: changed by hand" in said and "'0.01'" in said and said.count("paper/") == 1


@pytest.mark.parametrize("change", ["", "more\n", "cut"])
def test_lines_that_come_and_go(root, change):
    build(root)
    path = root / "out" / "paper.csv"
    path.write_text("" if not change else path.read_text()[:-30] if change == "cut" else path.read_text() + change)
    assert "out/paper.csv:" in faults(root)
    path.unlink()
    assert "out/paper.csv: No such file" in faults(root)


def test_a_missing_run_is_named_with_its_cells(root):
    build(root)
    (root / "traj-2").rename(root / ".gone")
    said = faults(root)
    assert "paper/traj/cer: traj-2" in said and "paper/traj/wer: traj-2" in said and "paper/base" not in said


def test_a_damaged_run_is_named_with_its_cells(root):
    build(root)
    path = root / "fast-1" / "test_predictions.jsonl"
    text = path.read_text()
    path.unlink()
    path.write_text(text + " ")
    assert "paper/fast/cer: fast-1: test_predictions.jsonl" in faults(root)
    with pytest.raises(GateError, match="not valid evidence"):
        build(root)


def test_a_run_that_is_another_now_is_stale(root):
    build(root)
    shutil.rmtree(root / "fast-1")
    bundle.seal_bundle(planted_runs.recognizer_run(root, "fast-1", seed=1, harm=0.5, rows=20, learning_rate=1e-3))
    said = faults(root)
    assert "paper/fast/cer: fast-1 changed since the tables were made" in said and "paper/fast/cer: stale: was" in said
    build(root)
    assert table_files.check_table_files(root / "tables.yaml", find(root))


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


def test_a_changed_spec_is_stale(root):
    build(root)
    (root / "tables.yaml").write_text(SPEC.replace("columns: [cer,", "columns: [cer, exact,"))
    assert "paper/base/exact: is new since the tables were made" in faults(root)
    (root / "tables.yaml").write_text(SPEC + "digits: 2\n")
    assert "tables.yaml: changed since the tables were made" in faults(root)


def test_never_built(root):
    assert "tables.lock.json" in faults(root)


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("[base, traj, fast]", "[base, trja]", "no runs are named 'trja'. Did you mean 'traj'"),
        ("cer@novelty", "cer@novel", "no partition is named 'novel'. Did you mean 'novelty'"),
        ("cer@novelty", "crr", "no metric is named 'crr'. Did you mean 'cer'"),
        ("title:", "titel:", "unknown key 'titel'. Did you mean 'title'"),
        ("[fast-1]", "[]", "'fast' names no run"),
        ("[fast-1]", "[fast-1, fast-1]", "'fast' names a run twice"),
        ("name: paper", "name: ../paper", "a name has letters"),
        ("rows: [base, traj, fast]", "rows: [base, base]", "occurs twice"),
        ("thunder.tables/1", "other/1", "schema"),
        ("out: out", "digits: 9", "'digits'"),
        ("  - name: paper", "  - paper", "tables"),
    ],
)
def test_faults_of_a_spec(root, old, new, words):
    (root / "tables.yaml").write_text(SPEC.replace(old, new))
    with pytest.raises(ConfigError) as error:
        table_spec.read_table_spec(root / "tables.yaml")
    assert words in error.value.message


def test_a_misspelt_declaration(root):
    (root / "tables.yaml").write_text(SPEC.replace("allow: [mode]", "allow: [moed]"))
    with pytest.raises(UsageError, match="Did you mean 'mode'"):
        build(root)


def test_places_in_prose_that_mean_nothing(root):
    (root / "paper.md.in").write_text("{{cer:base}}\n{{crr:base}} {{cer:nobody}}\n")
    with pytest.raises(ConfigError) as error:
        build(root)
    assert "paper.md.in:2: {{crr:base}}" in error.value.message and "'nobody'" in error.value.message
    (root / "paper.md.in").unlink()
    with pytest.raises(ConfigError, match=r"paper\.md\.in"):
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


@pytest.mark.parametrize("text", ["a_b & 50% #1 {x} ~^\\", "±"])
def test_latex_signs(text):
    escaped = render_tables.escape_latex(text)
    assert not any(sign in escaped.replace("\\" + sign, "") for sign in "&%#_")
