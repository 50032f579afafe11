"""Files of tables: a second build has the same bytes, and a change by hand or of a run is named by its cell."""

from __future__ import annotations

import shutil

import planted_runs
import pytest
from planted_tables import SPEC, build, cells, faults, find, sealed_runs_and_spec

from thunder.errors import GateError
from thunder.runs.bundles import bundle
from thunder.runs.tables import table_files


@pytest.fixture
def root(tmp_path):
    return sealed_runs_and_spec(tmp_path)


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


def test_a_changed_spec_is_stale(root):
    build(root)
    (root / "tables.yaml").write_text(SPEC.replace("columns: [cer,", "columns: [cer, exact,"))
    assert "paper/base/exact: is new since the tables were made" in faults(root)
    (root / "tables.yaml").write_text(SPEC + "digits: 2\n")
    assert "tables.yaml: changed since the tables were made" in faults(root)


def test_never_built(root):
    assert "tables.lock.json" in faults(root)
