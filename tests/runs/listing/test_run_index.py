"""The index of runs: it says what the folders say, whatever became of its file."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import time

import planted_runs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.errors import UsageError
from thunder.runs.bundles import bundle
from thunder.runs.listing import conditions, run_index
from thunder.runs.records import registry, run_record

OLD = time.time() - 3600


def age(folder):
    """Let a folder be one that was left alone for an hour."""
    os.utime(folder, (OLD, OLD))


@pytest.fixture
def root(tmp_path):
    for number, (mode, lr) in enumerate([("baseline", 3e-4), ("trajectory", 3e-4), ("trajectory", 1e-4)]):
        name = f"2026010{number + 1}-120000-run-{number:04}"
        age(planted_runs.recognizer_run(tmp_path, name, seed=number, mode=mode, learning_rate=lr))
    (tmp_path / "latest").symlink_to(name)
    (tmp_path / "notes").mkdir()
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def names(root, *texts, **words):
    return [
        run["name"][-1]
        for run in run_index.list_runs(root, [conditions.parse_condition(text) for text in texts], **words)
    ]


def test_newest_first_with_columns_and_options(root):
    found = run_index.list_runs(root)
    assert [run["name"][-1] for run in found] == ["2", "1", "0"]
    line = registry.run_line(root / found[0]["name"], running=False)
    for column in ("state", "step", "steps", "loss", "cer", "started", "why"):
        assert found[0][column] == getattr(line, column)
    assert (found[0]["job"], found[0]["sealed"], found[0]["options"]["lr"]) == ("asr", None, 1e-4)


@pytest.mark.parametrize(
    "texts, wanted",
    [
        (["mode=trajectory"], "21"),
        (["mode!=trajectory"], "0"),
        (["mode=trajectory", "lr<2e-4"], "2"),
        (["learning-rate>=3e-4"], "10"),
        (["mode~TRAJ"], "21"),
        (["seed=1"], "1"),
        (["seed = 1.0"], "1"),
        (["use_ttt=no"], "210"),
        (["use_ttt=true"], ""),
        (["state=done", "name~0002"], "2"),
        (["cer<1"], "210"),
        (["mode<3"], ""),
        (["sealed=x"], ""),
    ],
)
def test_conditions(root, texts, wanted):
    assert "".join(names(root, *texts)) == wanted


@settings(max_examples=40)
@given(sign=st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), value=st.integers(-1, 4))
def test_conditions_on_numbers_are_pythons(tmp_path_factory, sign, value):
    place = tmp_path_factory.getbasetemp() / "numbers"
    if not place.exists():
        for seed in range(4):
            folder = place / f"20260101-120000-{seed}"
            folder.mkdir(parents=True)
            (folder / "plan.json").write_text(json.dumps({"settings": {"seed": seed}}))
    wanted = [str(seed) for seed in range(4) if eval(f"{seed} {'==' if sign == '=' else sign} {value}")]
    assert sorted(names(place, f"seed{sign}{value}")) == wanted


def test_sorting_and_limits(root):
    assert names(root, sort="lr") == ["2", "1", "0"] and names(root, sort="-lr") == ["1", "0", "2"]
    assert names(root, limit=1) == ["2"]
    by_cer = [run["cer"] for run in run_index.list_runs(root, sort="cer")]
    assert by_cer == sorted(by_cer)


def test_what_no_run_has(root):
    with pytest.raises(UsageError, match="Did you mean 'mode'"):
        names(root, "mdoe=trajectory")
    with pytest.raises(UsageError, match="is not a name"):
        names(root, sort='a"b')
    assert names(root / "none", "mdoe=1") == [], "where there are no runs, nothing can be misspelt"


# staying true


def test_what_changes_is_seen(root):
    folder = root / "20260101-120000-run-0000"
    assert names(root) == ["2", "1", "0"]
    results = json.loads((folder / "results.json").read_text())
    results["test"]["cer"] = 0.125
    run_record.RunRecord(folder).finish(results)
    assert run_index.list_runs(root, [conditions.parse_condition("cer=0.125")])[0]["name"] == folder.name
    shutil.rmtree(root / "20260102-120000-run-0001")
    planted_runs.recognizer_run(root, "20260109-120000-run-0009")
    assert names(root) == ["9", "2", "0"]
    bundle.seal_bundle(root / "20260109-120000-run-0009")
    assert run_index.list_runs(root)[0]["sealed"] == bundle.manifest_digest(root / "20260109-120000-run-0009")


def test_a_run_that_goes_on_is_read_each_time(root):
    folder = root / "20260101-120000-run-0000"
    with run_record.lock_run(folder):
        age(folder)
        assert run_index.list_runs(root, [conditions.parse_condition("state=running")])[0]["step"] == 400
        with (folder / "metrics.jsonl").open("a") as stream:
            stream.write('{"step": 401, "loss": 1.0}\n')
        age(folder)
        assert run_index.list_runs(root, [conditions.parse_condition("state=running")])[0]["step"] == 401
    assert names(root, "state=running") == []


def test_only_what_changed_is_read_again(root, monkeypatch):
    run_index.list_runs(root)
    read = []
    real = run_index._row
    monkeypatch.setattr(run_index, "_row", lambda folder: (read.append(folder.name), real(folder))[1])
    run_index.list_runs(root)
    assert read == []
    (root / "20260101-120000-run-0000" / "new").touch()
    run_index.list_runs(root)
    run_index.list_runs(root)
    assert read == ["20260101-120000-run-0000"] * 2, "twice, for it may have changed in the same tick of the clock"


# lost and damaged


def test_lost(root):
    before = run_index.list_runs(root)
    (root / run_index.INDEX_FILE).unlink()
    assert run_index.list_runs(root) == before


@pytest.mark.parametrize("seed", range(12))
def test_damaged(root, seed):
    before = run_index.list_runs(root)
    draw = random.Random(seed)
    path = root / run_index.INDEX_FILE
    data = bytearray(path.read_bytes())
    if seed < 4:
        data = data[: draw.randrange(len(data))]
    elif seed < 8:
        data[: 1 + draw.randrange(4000)] = b"\xff" * 200
    else:
        for _ in range(3000):
            data[draw.randrange(100, len(data))] = draw.randrange(256)
    path.write_bytes(bytes(data))
    assert run_index.list_runs(root) == before


def test_of_another_version(root):
    before = run_index.list_runs(root)
    connection = sqlite3.connect(root / run_index.INDEX_FILE)
    with connection:
        connection.execute("DROP TABLE runs")
        connection.execute("CREATE TABLE runs (something)")
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert run_index.list_runs(root) == before


def test_where_it_cannot_be_written(root):
    (root / run_index.INDEX_FILE).mkdir()
    assert names(root, "mode=trajectory") == ["2", "1"]


def test_while_another_holds_it(root, monkeypatch):
    monkeypatch.setattr(run_index, "LOCK_TIMEOUT", 0.05)
    run_index.list_runs(root)
    connection = sqlite3.connect(root / run_index.INDEX_FILE)
    connection.execute("BEGIN EXCLUSIVE")
    assert names(root) == ["2", "1", "0"]
    connection.rollback()
    connection.close()
    assert (root / run_index.INDEX_FILE).exists()


def test_rebuilt(root):
    assert run_index.rebuild_index(root) == 3


@pytest.mark.parametrize("text", ['{"settings": {"x": 1e999}}', '{"settings": []}', "[", '{"settings": {"a\\"b": 1}}'])
def test_plans_of_every_kind(tmp_path, text):
    folder = tmp_path / "20260101-120000-x"
    folder.mkdir()
    (folder / "plan.json").write_text(text)
    assert len(run_index.list_runs(tmp_path)) == 1 and names(tmp_path, "state=damaged") in (["x"], [])


@pytest.mark.parametrize("only", [[], ["lr"], ["use_ttt"], ["mode", "learning_rate", "use_ttt", "no_such"]])
def test_only_some_options_are_what_all_of_them_have(root, only):
    whole = run_index.list_runs(root)
    for run, all_ in zip(run_index.list_runs(root, only=only), whole, strict=True):
        known = {"learning_rate": "lr"}
        assert run["options"] == {name: all_["options"].get(known.get(name, name)) for name in only}
        assert {**run, "options": 0} == {**all_, "options": 0}
