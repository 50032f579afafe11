"""Faults on demand: refused by name where malformed, fired once, and what real ranks do about them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import mlx.core as mx
import numpy as np
import pytest
from ranked_training import run_training, trained

from thunder.errors import UsageError
from thunder.parallel.world import World
from thunder.runs.records.run_record import RunRecord
from thunder.training import faults
from thunder.training.training_events import CallbackList, StartEvent

pytestmark = pytest.mark.expensive


@pytest.fixture
def armed(tmp_path):
    """Callbacks with the faults of a spec, as rank 1 has them once its run began."""

    def arm(spec, rows_at_once=1):
        injector = faults.FaultInjector(faults.parse_faults(spec), RunRecord(tmp_path), 1, World())
        callbacks = CallbackList([injector])
        callbacks.on_start(StartEvent(tmp_path, 0, 10, rows_at_once))
        return callbacks

    return arm


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("kil@step", "no kind 'kil'. Did you mean 'kill'?"),
        ("kill@stepp", "no point 'stepp'. Did you mean 'step'?"),
        ("kill", "no point ''"),
        ("kill@step:stp=3", "no option 'stp=3'. Did you mean 'step'?"),
        ("kill@step:step=x", "no option 'step=x'"),
        ("kill@step:step=-1", "no option 'step=-1'"),
        ("kill@step,oom@gradient:above", "'oom@gradient:above': no option 'above'"),
        ("kill@step:above=2", "'above' is for gpu-timeout, interactivity, oom"),
        ("nan@step", "'nan' is for the point 'gradient'"),
        ("oom@collective", "at 'collective' only kill and stop can be"),
        ("slow@step", "'slow' is for the point 'computing'"),
        ("kill@step:ms=3", "'ms' is for slow"),
        ("extra-collective@joining", "no collective before the loop begins"),
    ],
)
def test_a_malformed_fault_is_refused_by_name(spec, said):
    with pytest.raises(UsageError) as caught:
        faults.parse_faults(spec)
    assert said in caught.value.message and spec.split(",")[-1] in caught.value.message


def test_what_a_fault_says():
    assert faults.parse_faults("") == ()
    one, other = faults.parse_faults("kill@saving:step=6:rank=1, gpu-timeout@gradient:above=2:always")
    assert (one.kind, one.point, one.step, one.rank, one.always) == ("kill", "saving", 6, 1, False)
    assert (other.kind, other.above, other.always) == ("gpu-timeout", 2, True)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("gpu-timeout", "Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)"),
        ("interactivity", "Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)"),
        ("oom", "Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"),
    ],
)
def test_a_fault_fires_once_a_run_at_its_place_with_metals_words(armed, tmp_path, kind, words):
    callbacks = armed(f"{kind}@gradient:step=3")
    for point, step in (("step", 3), ("gradient", 2)):
        callbacks.reach_point(point, step=step)
    with pytest.raises(RuntimeError) as caught:
        callbacks.reach_point("gradient", step=3)
    assert str(caught.value) == f"[METAL] Command buffer execution failed: {words}"
    assert [path.name for path in (tmp_path / "faults").iterdir()] == [f"{kind}@gradient:step=3:rank=1.fired"]
    callbacks.reach_point("gradient", step=3)
    callbacks = armed(f"{kind}@gradient:step=3")  # as after a restart
    callbacks.reach_point("gradient", step=3)
    callbacks = armed(f"{kind}@gradient:step=3:rank=0")
    callbacks.reach_point("gradient", step=3)


def test_always_and_above_fire_again(armed, tmp_path):
    callbacks = armed("oom@step:always")
    for _ in range(2):
        with pytest.raises(RuntimeError):
            callbacks.reach_point("step", step=1)
    for rows_at_once, fires in ((4, True), (4, True), (3, True), (2, False), (1, False)):
        callbacks = armed("gpu-timeout@step:above=2", rows_at_once)
        if fires:
            with pytest.raises(RuntimeError):
                callbacks.reach_point("step", step=1)
        else:
            callbacks.reach_point("step", step=1)
    assert not (tmp_path / "faults").exists()


def test_nan_spoils_the_loss_and_nothing_is_armed_by_default(armed):
    loss = mx.array(1.5)
    callbacks = armed("")
    callbacks.reach_point("gradient", step=1, loss=loss)
    assert loss.item() == 1.5
    callbacks = armed("nan@gradient")
    callbacks.reach_point("gradient", step=1, loss=loss)
    assert np.isnan(loss.item())


ALONE = """
import sys, threading, time
from pathlib import Path
from thunder.runs.records.run_record import RunRecord
from thunder.training import faults
from thunder.training.training_events import CallbackList
record = RunRecord(Path(sys.argv[1]), True, int(sys.argv[3]) if len(sys.argv) > 3 else None)
callbacks = CallbackList(faults.from_environment({"THUNDER_FAULTS": sys.argv[2]}, record, 0))
record.start_heartbeat(0.05)
record.phase("training")
callbacks.reach_point("step", step=1)
callbacks.reach_point("collective", step=1)
time.sleep(0.5)
record.event("after")
print("came through", flush=True)
"""


def alone(tmp_path, fault, *more, stderr=subprocess.PIPE, **kept):
    return subprocess.Popen(
        [sys.executable, "-c", ALONE, str(tmp_path), fault, *more],
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=stderr,
        **kept,
    )


@pytest.mark.parametrize("point", ["step", "collective"])
def test_a_process_kills_itself_once(tmp_path, point):
    process = alone(tmp_path, f"kill@{point}:step=1:rank=0")
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    again = alone(tmp_path, f"kill@{point}:step=1:rank=0")
    assert b"came through" in again.communicate(timeout=30)[0] and again.returncode == 0


def read_events(fd, seconds):
    """What comes through a pipe within so many seconds, as JSON values (None for a line that is none)."""
    os.set_blocking(fd, False)
    text, until = b"", time.monotonic() + seconds
    while time.monotonic() < until or (text and not text.endswith(b"\n")):
        try:
            data = os.read(fd, 1 << 20)
        except BlockingIOError:
            time.sleep(0.01)
            continue
        if not data:
            break
        text += data
    values = []
    for line in text.splitlines():
        try:
            values.append(json.loads(line))
        except ValueError:
            values.append(None)
    return values


@pytest.mark.parametrize(("kind", "beats"), [("freeze", True), ("stop", False)])
def test_a_frozen_rank_beats_without_progress_and_a_stopped_one_does_not(tmp_path, kind, beats):
    out, events = os.pipe()
    process = alone(tmp_path, f"{kind}@step", str(events), pass_fds=(events,))
    os.close(events)
    try:
        before = time.monotonic()
        while not list(tmp_path.glob("faults/*.fired")) and time.monotonic() < before + 30:
            time.sleep(0.02)
        read_events(out, 0.3)
        later = [event for event in read_events(out, 0.6) if event["event"] == "beat"]
        assert (len(later) > 3) == beats and (beats or not later)
        assert len({event["progress"] for event in later}) <= 1
        assert all(event["phase"] == "training" for event in later)
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate(timeout=10)
        os.close(out)


def test_garbage_and_long_lines_do_not_stop_a_rank(tmp_path):
    out, events = os.pipe()
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = alone(
            tmp_path, "garbage-event@step,long-log-line@step", str(events), pass_fds=(events,), stderr=stream
        )
    os.close(events)
    try:
        got = []
        until = time.monotonic() + 30
        while not any(event and event["event"] == "after" for event in got) and time.monotonic() < until:
            got += read_events(out, 1)
        assert process.wait(timeout=30) == 0
        assert any(event and event["event"] == "after" for event in got), got
        assert got.count(None) == 1, "garbage is one line, and the events around it are whole"
        assert log.stat().st_size > 10_000_000
    finally:
        process.kill()
        process.communicate(timeout=10)
        os.close(out)


def test_an_extra_collective_on_one_rank_stops_both_before_a_wrong_sum_is_applied(run_ranks, tmp_path):
    whole = trained(run_ranks, tmp_path, 2, "whole", batch_size=1, save_every=1)
    kept = tmp_path / "whole" / "checkpoints" / "step-0000011"
    results = run_training(
        run_ranks, tmp_path, 2, "bad", how={"fault": "extra-collective@gradient:step=12:rank=1"},
        batch_size=1, save_every=1,
    )  # fmt: skip
    assert all(code != 0 and "RunFailed" in text and "out of step" in text for code, text in results), results
    last = sorted((tmp_path / "bad" / "checkpoints").iterdir())[-1]
    assert last.name == "step-0000011", "not one step more was applied"
    assert (last / "weights.safetensors").read_bytes() == (kept / "weights.safetensors").read_bytes()
    assert (last / "optimizer_state.safetensors").read_bytes() == (kept / "optimizer_state.safetensors").read_bytes()
    # and from there on it ends as if nothing had been
    assert trained(run_ranks, tmp_path, 2, "bad", batch_size=1, save_every=1)[3] == whole[3]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("nan@gradient:step=3:rank=1", "not a finite number"),
        ("extra-collective@step:step=3:rank=0", "out of step"),
        ("extra-collective@applied:step=3:rank=0", "out of step"),
        ("oom@gradient:step=3:rank=0", "Insufficient Memory"),
        ("kill@collective:step=3:rank=1", "connection to a peer was lost"),
    ],
)
def test_other_faults_of_real_ranks(run_ranks, tmp_path, fault, said):
    results = run_training(run_ranks, tmp_path, 2, "bad", how={"fault": fault}, batch_size=1, iters=8)
    assert all(code != 0 for code, _ in results), results
    hit = [text for _, text in results if said in text]
    assert len(hit) == (2 if "nan" in fault or "extra" in fault else 1), results


@pytest.mark.slow
def test_a_rank_killed_while_it_saves_leaves_the_checkpoint_before(run_ranks, tmp_path):
    whole = trained(run_ranks, tmp_path, 2, "whole", batch_size=1)
    results = run_training(run_ranks, tmp_path, 2, "cut", how={"fault": "kill@saving:step=12:rank=0"}, batch_size=1)
    assert results[0][0] == -signal.SIGKILL
    names = sorted(path.name for path in (tmp_path / "cut" / "checkpoints").iterdir())
    assert names[1:] == ["step-0000006"] and names[0].startswith(".step-0000012.")
    assert trained(run_ranks, tmp_path, 2, "cut", batch_size=1)[3] == whole[3]
    names = sorted(path.name for path in (tmp_path / "cut" / "checkpoints").iterdir())
    assert names == ["step-0000006", "step-0000012"]
