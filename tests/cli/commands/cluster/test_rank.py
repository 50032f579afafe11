"""One rank by itself, as a launcher starts it: its options, its beats, its stacks on demand, its faults."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import make_rows, write_rows

from thunder.config import dump_yaml

pytestmark = pytest.mark.expensive


@pytest.fixture
def start(tmp_path, tiny_model):
    """Start a rank on a small run; returns (process, path of its events, path of its log)."""
    started = []
    data = tmp_path / "data"
    data.mkdir()
    for seed, (part, count) in enumerate({"train": 12, "valid": 5, "test": 2}.items()):
        write_rows(data / f"{part}.jsonl", make_rows(count, seed=seed))

    def run(*words, faults="", **options):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        values = {"model": str(tiny_model), "data": str(data), "iters": 3, "batch_size": 4, "num_layers": 2}
        (folder / "config.yaml").write_text(dump_yaml(values | options), encoding="utf-8")
        environ = os.environ | {"THUNDER_FAULTS": faults, "THUNDER_JOB_ID": "a1"}
        with (folder / "events").open("wb") as events, (folder / "log").open("wb") as log:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-P", "-m", "thunder", "rank", str(folder), *words],
                    env=environ | {"THUNDER_EVENTS_FD": str(events.fileno())},
                    pass_fds=(events.fileno(),), stdout=log, stderr=log,
                )
            )  # fmt: skip
        return started[-1], folder / "events", folder / "log"

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait(10)


def events_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)


def test_circumstances_are_used_and_said_and_the_fingerprint_is_the_same(start):
    process, events, log = start("--micro-batch-size", "2", "--grad-checkpoint", "--planned-ranks", "2")
    assert process.wait(90) == 0, log.read_text()
    folder = events.parent
    results = json.loads((folder / "results.json").read_text())
    said = {name: results[name] for name in ("ranks", "planned_ranks", "batch_size_per_rank", "micro_batch_size")}
    assert said == {"ranks": 1, "planned_ranks": 2, "batch_size_per_rank": 4, "micro_batch_size": 2}
    assert results["global_batch_size"] == 8 and results["grad_checkpoint"] is True and results["epochs_begun"] == 2
    manifest = json.loads((folder / "checkpoints" / "step-0000003" / "manifest.json").read_text())
    assert manifest["ranks"] == 2 and manifest["ground"].keys() == {"configuration", "data", "base weights"}
    assert "best/adapters.safetensors" in manifest["files"]
    phases = [event["phase"] for event in events_of(events) if event["event"] == "phase"]
    assert phases == [
        "joining", "loading", "filling the prefix cache", "training", "validating", "training", "validating",
        "training", "saving", "training", "testing",
    ]  # fmt: skip
    beats = [event for event in events_of(events) if event["event"] == "beat"]
    assert beats and [beat["progress"] for beat in beats] == sorted(beat["progress"] for beat in beats)
    # the same run without them has the same fingerprint, since they are no configuration
    process, _, log = start("--planned-ranks", "2")
    assert process.wait(90) == 0, log.read_text()
    # a changed configuration does not, unless it is forced
    process, events, log = start("--planned-ranks", "2", seed=8)
    assert process.wait(90) == 4
    error = next(event for event in events_of(events) if event["event"] == "error")
    assert "configuration: " in error["message"] and "--force" in error["fix"]
    process, events, log = start("--planned-ranks", "2", "--force", seed=8)
    assert process.wait(90) == 0, log.read_text()
    assert any("taken because of --force" in event["text"] for event in events_of(events) if event["event"] == "log")


def test_a_rank_that_hangs_beats_and_shows_its_stacks(start):
    process, events, log = start(faults="freeze@step:step=2")
    wait_for(lambda: "fault: freeze@step:step=2" in log.read_text())
    time.sleep(2.5)
    beats = [event for event in events_of(events) if event["event"] == "beat"][-2:]
    assert beats[0]["progress"] == beats[1]["progress"] and beats[1]["step"] == 1
    process.send_signal(signal.SIGUSR1)
    wait_for(lambda: "faults.py" in log.read_text() and "in step" in log.read_text(), 10)
    assert process.poll() is None, "asking for stacks must not end it"


@pytest.mark.parametrize(
    ("faults", "code", "said"),
    [
        ("kil@step", 2, "no kind 'kil'"),
        ("gpu-timeout@gradient:above=1", 1, "Caused GPU Timeout Error"),
        ("oom@testing", 1, "Insufficient Memory"),
        ("interactivity@validating", 1, "Impacting Interactivity"),
    ],
)
def test_faults_end_a_rank_as_they_would(start, faults, code, said):
    process, events, log = start("--micro-batch-size", "2", faults=faults)
    assert process.wait(50) == code, log.read_text()
    assert any(said in event["message"] for event in events_of(events) if event["event"] == "error")
