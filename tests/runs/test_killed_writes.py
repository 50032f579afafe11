"""Processes killed at every act on files: sealing, tables and the index are as before, as after, or said not to be."""

from __future__ import annotations

import shutil
from pathlib import Path

import killed
import planted_runs
import pytest

from thunder.errors import GateError
from thunder.runs.bundles import bundle
from thunder.runs.hypotheses import frozen_hypothesis
from thunder.runs.listing import run_index
from thunder.runs.tables import table_files

pytestmark = pytest.mark.expensive


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file that somebody would look at; halves of files and the index are hidden ones."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def removed(folder: Path) -> None:
    for path in folder.rglob("*"):
        path.chmod(0o700)
    shutil.rmtree(folder)


def copied(source: Path, target: Path) -> None:
    if target.exists():
        removed(target)
    shutil.copytree(source, target)


def test_sealing_is_all_or_nothing(tmp_path):
    run = planted_runs.recognizer_run(tmp_path / "from")
    before, copy = content_of(run), tmp_path / "at" / run.name
    copied(run, copy)
    bundle.seal_bundle(copy)
    after, states = content_of(copy), []
    for _ in killed.at_each_act(lambda: bundle.seal_bundle(copy), lambda: copied(run, copy)):
        found = content_of(copy)
        assert found in (before, after)
        states.append(found == after)
        assert bundle.bundle_faults(copy) == [] and (bundle.manifest_digest(copy) is not None) == (found == after)
        if len(states) % 5 == 0:
            bundle.seal_bundle(copy)
            assert content_of(copy) == after and bundle.inspect_bundle(copy).notes == []
            assert not list(copy.glob(".manifest*")), "what was left half done is gone"
    assert len(states) > 40 and states == sorted(states) and {True, False} == set(states), "one moment, in the middle"


SPEC = """out: out
digits: {digits}
runs:
  a: [run-1, run-2]
tables:
  - {{name: one, rows: [a], columns: [cer, rows]}}
  - {{name: two, rows: [a], columns: [wer]}}
prose:
  - {{source: paper.md.in, target: paper.md}}
"""


@pytest.fixture
def tables(tmp_path):
    """A folder with sealed runs and tables of two digits; with three they are to be made anew."""
    root = tmp_path / "tables"
    for seed in (1, 2):
        bundle.seal_bundle(planted_runs.recognizer_run(root, f"run-{seed}", seed=seed))
    (root / "paper.md.in").write_text("It is {{cer:a}} %.\n")
    (root / "tables.yaml").write_text(SPEC.format(digits=2))
    build(root)
    return root


def build(root: Path) -> None:
    table_files.build_table_files(root / "tables.yaml", lambda name: root / name)


def clean(root: Path) -> bool:
    try:
        table_files.check_table_files(root / "tables.yaml", lambda name: root / name)
    except GateError:
        return False
    return True


@pytest.mark.slow
def test_every_table_is_the_old_or_the_new_one_and_a_mixture_never_passes(tables):
    before, kept = content_of(tables), tables.parent / "kept"
    copied(tables, kept)
    assert clean(tables)
    (tables / "tables.yaml").write_text(SPEC.format(digits=3))
    build(tables)
    after, seen = content_of(tables), set()

    def fresh() -> None:
        copied(kept, tables)
        (tables / "tables.yaml").write_text(SPEC.format(digits=3))

    for number in killed.at_each_act(lambda: build(tables), fresh):
        found = content_of(tables)
        assert found.keys() == after.keys()
        for name in after:
            assert found[name] in (before[name], after[name]), f"{name}, act {number}"
        mixture = frozenset(name for name in after if found[name] == after[name] != before[name])
        if mixture not in seen:
            assert clean(tables) == (found == after), "a mixture is found"
        seen.add(mixture)
    assert len(seen) > 5, "killed between all of the files"
    copied(kept, tables)
    fresh()
    build(tables)
    assert content_of(tables) == after and clean(tables)


def test_freezing_is_all_or_nothing(tmp_path):
    path, log = tmp_path / "h.json", tmp_path / "h.json.frozen.jsonl"
    said = {"id": "h", "treatment": {"key": "lr", "before": 1, "after": 2}, "outcomes": [
        {"when": "x < 0", "verdict": "lower"}, {"when": "otherwise", "verdict": "undetermined"}]}  # fmt: skip
    planted_runs.write_json(path, said)
    frozen_hypothesis.freeze_hypothesis(path, now=1)
    before = log.read_bytes()
    planted_runs.write_json(path, said | {"id": "another"})
    states = []
    for _ in killed.at_each_act(
        lambda: frozen_hypothesis.freeze_hypothesis(path, now=2), lambda: log.write_bytes(before)
    ):
        states.append(log.read_bytes().count(b"\n"))
        assert log.read_bytes().startswith(before) and log.read_bytes().endswith(b"}\n")
    assert set(states) == {1, 2}


@pytest.fixture
def runs(tmp_path):
    root = tmp_path / "runs"
    for number in range(5):
        planted_runs.recognizer_run(root, f"202601{number + 1:02}-120000-run-{number:04}", seed=number, rows=2)
    return root


def test_the_index_says_what_the_folders_say_wherever_its_making_is_killed(runs):
    wanted = run_index.list_runs(runs)
    assert len(wanted) == 5
    place = runs / run_index.INDEX_FILE
    count = 0
    for count in killed.at_each_act(lambda: run_index.rebuild_index(runs), lambda: run_index.list_runs(runs)):  # noqa: B007
        assert run_index.list_runs(runs) == wanted
    assert count > 5 * 4 and place.is_file()


def test_the_index_is_right_after_being_killed_at_any_time(runs):
    wanted, still = run_index.list_runs(runs), 0
    for turn in range(24):
        still += killed.after(turn * 0.001, lambda: run_index.rebuild_index(runs))
        assert run_index.list_runs(runs) == wanted
    assert still > 3, "it was killed while it was at it"
