import fcntl
import json
import os
import time
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.errors import Interrupted, RunFailed
from thunder.runs.records import registry, run_record


def make(root, name="20260102-030405-sample-ab12", *, plan=None, metrics=None, results=None, **files):
    folder = root / name
    folder.mkdir(parents=True)
    if plan is not None:
        (folder / "plan.json").write_text(plan if isinstance(plan, str) else json.dumps(plan))
    if metrics is not None:
        text = metrics if isinstance(metrics, str) else "".join(json.dumps(each) + "\n" for each in metrics)
        (folder / "metrics.jsonl").write_text(text)
    if results is not None:
        (folder / "results.json").write_text(results if isinstance(results, str) else json.dumps(results))
    for file, text in files.items():
        (folder / file.replace("_", ".")).write_text(text)
    return folder


PLAN = {"length": {"updates": 400}}
METRICS = [{"step": 10, "loss": 2.5}, {"step": 20, "loss": 2.25}, {"step": 20, "valid_loss": 2.0}]


def only(root):
    (one,) = registry.recent_runs(root)
    return one


def test_a_run_that_is_done(tmp_path):
    make(tmp_path, plan=PLAN, metrics=METRICS, results={"steps": 400, "test": {"cer_before": 0.3, "cer_after": 0.125}})
    one = only(tmp_path)
    assert (one.state, one.step, one.steps, one.loss, one.cer, one.why) == ("done", 400, 400, 2.25, 0.125, None)
    assert one.started == time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1))
    assert abs(one.updated - time.time()) < 10


def test_running_is_who_holds_the_lock(tmp_path):
    folder = make(tmp_path, plan=PLAN, metrics=METRICS, results={"steps": 3})
    assert only(tmp_path).state == "done"
    with run_record.lock_run(folder):
        one = only(tmp_path)
        assert (one.state, one.step, one.steps, one.loss) == ("running", 20, 400, 2.25)
        assert (folder / run_record.LOCK).read_text().strip() == str(os.getpid()), "and it is not disturbed"
    assert only(tmp_path).state == "done"
    with run_record.lock_run(folder):
        pass


def test_looking_lets_go_of_the_lock_and_makes_none(tmp_path):
    folder = make(tmp_path, plan=PLAN)
    assert not registry.is_running(folder) and not (folder / run_record.LOCK).exists()
    (folder / run_record.LOCK).touch()
    assert not registry.is_running(folder)
    with (folder / run_record.LOCK).open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert registry.is_running(folder)


@pytest.mark.parametrize(
    "error, state, why",
    [
        (Interrupted("at step 20, with a checkpoint"), "stopped", None),
        (RunFailed("rank 1 died\n  of hunger"), "failed", "rank 1 died"),
    ],
)
def test_how_a_run_ended(tmp_path, error, state, why):
    folder = make(tmp_path, plan=PLAN, metrics=METRICS)
    registry.write_end(folder, error)
    one = only(tmp_path)
    assert (one.state, one.why, one.step) == (state, why, 20)
    (folder / "results.json").write_text('{"steps": 400}')
    assert only(tmp_path).state == "done", "a run that was continued to its end"


def test_a_run_that_could_say_nothing(tmp_path):
    folder = make(tmp_path, plan=PLAN)
    assert (only(tmp_path).state, bool(only(tmp_path).why)) == ("failed", True)
    (folder / "checkpoints" / "step-0000020").mkdir(parents=True)
    assert only(tmp_path).state == "stopped"


@pytest.mark.parametrize(
    "files, why",
    [
        ({}, "plan.json is missing"),
        ({"plan": "{"}, "plan.json is not JSON"),
        ({"plan": "[]"}, "plan.json is not a JSON object"),
        ({"plan": "[" * 100000}, "plan.json is not JSON"),
        ({"plan": PLAN, "results": '{"steps"'}, "results.json is not JSON"),
        ({"plan": PLAN, "metrics": "a\nb\nc\n"}, "metrics.jsonl has no readable line"),
        ({"plan": PLAN, "end_json": "x"}, "end.json is not JSON"),
    ],
)
def test_damaged_runs_are_said_to_be_that(tmp_path, files, why):
    make(tmp_path, **files)
    assert (only(tmp_path).state, only(tmp_path).why) == ("damaged", why)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    (make(tmp_path, plan=PLAN) / "plan.json").chmod(0)
    assert only(tmp_path).why == "plan.json: Permission denied"


def test_a_plan_that_is_a_folder(tmp_path):
    (make(tmp_path) / "plan.json").mkdir()
    assert only(tmp_path).why == "plan.json: Is a directory"


def test_a_number_that_no_float_holds(tmp_path):
    make(tmp_path, plan=PLAN, metrics=f'{{"step": 1, "loss": {"9" * 400}}}\n{{"step": 2, "loss": NaN}}\n')
    assert (only(tmp_path).step, only(tmp_path).loss) == (2, None)


def test_a_line_that_is_cut_off_is_passed_over(tmp_path):
    make(tmp_path, plan=PLAN, metrics="".join(json.dumps(each) + "\n" for each in METRICS) + '{"step": 30, "lo')
    assert (only(tmp_path).step, only(tmp_path).loss, only(tmp_path).state) == (20, 2.25, "failed")


def test_only_the_tail_of_the_metrics_is_read(tmp_path):
    line = json.dumps({"step": 1, "loss": 9.0, "pad": "x" * 200}) + "\n"
    metrics = line * 2000 + json.dumps({"step": 2001, "loss": 0.5}) + "\n"
    path = make(tmp_path, plan=PLAN, metrics=metrics) / "metrics.jsonl"
    assert path.stat().st_size > 4 * registry.TAIL
    with path.open("r+b") as stream:
        stream.write(b"\xff" * 1000)
    assert (only(tmp_path).step, only(tmp_path).loss) == (2001, 0.5)


def test_the_newest_and_all_that_go_on(tmp_path):
    for day in range(1, 9):
        make(tmp_path, f"2026010{day}-000000-x-{day:04}", plan=PLAN, results={})
    first = tmp_path / "20260101-000000-x-0001"
    (tmp_path / "latest").symlink_to(first.name)
    (tmp_path / "README.md").write_text("no run")
    (tmp_path / "notes").mkdir()
    (tmp_path / ".hidden").mkdir()
    make(tmp_path, "by-hand", plan=PLAN, config_yaml="")
    os.utime(tmp_path / "by-hand" / "config.yaml", (1, 1))
    with run_record.lock_run(first):
        lines = registry.recent_runs(tmp_path, 3)
    assert [each.name[6:8] for each in lines] == ["01", "08", "07", "06"]
    assert [each.state for each in lines] == ["running", "done", "done", "done"]
    assert "by-hand" in [each.name for each in registry.recent_runs(tmp_path, 100)]


def test_no_runs(tmp_path):
    assert registry.recent_runs(tmp_path / "none") == registry.recent_runs(tmp_path) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["length", "updates", "step", "loss",
                                                "test", "cer_after", "steps", "state", "message"]), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=60)
@given(*[st.none() | st.binary(max_size=40) | json_values.map(lambda value: json.dumps(value).encode())] * 4)
def test_whatever_the_files_hold_it_is_a_line(tmp_path_factory, plan, metrics, results, end):
    root = tmp_path_factory.mktemp("runs")
    folder = root / "20260102-030405-x-0000"
    folder.mkdir()
    named = {"plan.json": plan, "metrics.jsonl": metrics, "results.json": results, "end.json": end}
    for name, content in named.items():
        if content is not None:
            (folder / name).write_bytes(content)
    one = only(root)
    assert one.state in ("done", "stopped", "failed", "damaged")
    json.dumps(asdict(one), allow_nan=False)
