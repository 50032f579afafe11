"""Runs that are disturbed end with the very bytes of the run that was not: kills, freezes, Metal's errors, anywhere.

The long sweep is marked slow; it prints what it measured (`pytest -m slow -s tests/launcher/test_run_faults.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from conftest import REPOSITORY, make_rows, write_rows

pytestmark = pytest.mark.expensive

STEPS = 12
OPTIONS = f"--iters {STEPS} --steps-per-report 1 --steps-per-eval 6 --save-every 3 --num-layers 2 --ranks 2"
# One entry for each of 20 places in a run's life; None where a rank has no such place, and the next best is taken.
KILLS = [
    "joining", "loading", "validating", "step:step=1", "gradient:step=1", "collective:step=2", "applied:step=2",
    "saving:step=3", "saved:step=3", "step:step=4", "gradient:step=5", "collective:step=5", "applied:step=6",
    "saving:step=6", "gradient:step=7", "collective:step=8", "saving:step=9", "applied:step=10", "saving:step=12",
    "testing",
]  # fmt: skip


@dataclass
class Ended:
    """A run that came to its end."""

    code: int
    err: str
    folder: Path
    seconds: float

    @property
    def adapter(self) -> str:
        return hashlib.sha256((self.folder / "adapters" / "adapters.safetensors").read_bytes()).hexdigest()

    @property
    def incidents(self) -> list[dict]:
        path = self.folder / "incidents.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def metrics(self) -> list[dict]:
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]

    def losses(self) -> dict[int, float]:
        return {line["step"]: line["loss"] for line in self.metrics() if "loss" in line}


class Runs:
    """Starts runs on the same rows and model, each in a folder of its own."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.count = root, 0
        self.data = root / "data"
        self.data.mkdir()
        for number, (part, rows) in enumerate({"train": 9, "valid": 3, "test": 2}.items()):
            write_rows(self.data / f"{part}.jsonl", make_rows(rows, seed=number))
        self.options = [*OPTIONS.split(), "--model", str(model), "--data", str(self.data), "--learning-rate", "5e-4"]

    def environ(self, faults: str, runs: Path) -> dict[str, str]:
        said = {"THUNDER_RUNS": str(runs), "THUNDER_STATE": str(self.root / "state")}
        return os.environ | said | ({"THUNDER_FAULTS": faults} if faults else {})

    def start(self, *words: str, faults: str = "", again: Path | None = None) -> tuple[subprocess.Popen, Path]:
        self.count += again is None
        runs = again or self.root / f"runs{self.count}"
        command = ["resume"] if again else ["train", *self.options]
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "thunder", *command, *words],
            cwd=REPOSITORY,
            env=self.environ(faults, runs),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return process, runs

    def run(self, *words: str, faults: str = "", timeout: float = 150) -> Ended:
        begun = time.monotonic()
        process, runs = self.start(*words, faults=faults)
        try:
            _, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
        return Ended(process.returncode, err, (runs / "latest").resolve(), time.monotonic() - begun)


def left_over(runs: Path) -> list[str]:
    """Processes that still work on a run, given a moment to end."""
    until = time.monotonic() + 20
    while True:
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if any(str(runs) in word for word in words) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(words))
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_model):
    return Runs(tmp_path_factory.mktemp("faults"), tiny_model)


@pytest.fixture(scope="module")
def calm(runs):
    """The run that nothing disturbs."""
    done = runs.run()
    assert done.code == 0, done.err
    return done


@pytest.mark.parametrize(
    "fault",
    ["kill@collective:step=5:rank=1", pytest.param("kill@saving:step=6:rank=0", marks=pytest.mark.slow)],
)
def test_a_killed_rank_costs_nothing_but_time(runs, calm, fault):
    done = runs.run(faults=fault)
    assert done.code == 0, done.err
    assert done.adapter == calm.adapter
    assert [each["kind"] for each in done.incidents] == ["killed"]
    assert not left_over(done.folder.parent)


@pytest.mark.slow
def test_a_rank_killed_while_it_fills_the_prefix_cache(runs, calm, tmp_path, monkeypatch):
    """With what it left, without a cache, and with room for some rows: the same bytes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = runs.run(faults="kill@filling:rank=1")
    assert done.code == 0, done.err
    assert [each["kind"] for each in done.incidents] == ["killed"]
    assert done.adapter == calm.adapter
    for size in ("off", "30kB"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / size))
        assert runs.run("--prefix-cache", size).adapter == calm.adapter


@pytest.mark.slow
def test_a_frozen_rank_is_named_and_the_run_goes_on(runs, calm):
    done = runs.run("--stall-after", "4", faults="stop@gradient:step=5:rank=1")
    assert done.code == 0 and done.adapter == calm.adapter, done.err
    (incident,) = done.incidents
    assert incident["kind"] == "hang" and incident["rank"] == 1 and "no heartbeat" in incident["text"]


@pytest.mark.slow
def test_a_gpu_that_cannot_do_the_shape_gets_a_smaller_one_with_the_same_global_batch(runs):
    calm = runs.run("--batch-size", "2")
    done = runs.run("--batch-size", "2", faults="gpu-timeout@gradient:above=1:rank=1")
    assert done.code == 0, done.err
    assert "micro-batch 1" in done.err
    mine, theirs = done.losses(), calm.losses()
    assert mine.keys() == theirs.keys() and len(mine) == STEPS
    assert all(abs(mine[step] - theirs[step]) <= 1e-4 * abs(theirs[step]) for step in mine)
    again = runs.run("--batch-size", "2", faults="gpu-timeout@gradient:above=1:rank=1")
    assert again.code == 0 and not again.incidents, "the next run starts with the shape that the chip could do"
    assert again.adapter == done.adapter


@pytest.mark.slow
def test_restarts_are_used_up_and_leave_a_bundle(runs):
    done = runs.run(faults="kill@gradient:step=2:always")
    assert done.code == 7 and "3 restarts without a new checkpoint" in done.err
    assert [each["action"] for each in done.incidents] == ["restart"] * 3 + ["stop"]
    (bundle,) = done.folder.glob("incident-*.tar.gz")
    listed = subprocess.run(["tar", "tzf", bundle], capture_output=True, text=True, timeout=10, check=True).stdout
    for name in ("incidents.jsonl", "plan.json", "environment.json", "logs/rank-0.log", "logs/rank-1.log"):
        assert f"{done.folder.name}/{name}" in listed.splitlines()


def test_an_error_of_the_program_itself_is_not_tried_again(runs):
    done = runs.run(faults="extra-collective@step:step=4:rank=1")
    assert done.code == 1 and "out of step" in done.err
    assert [each["action"] for each in done.incidents] == ["stop"]
    assert max(done.losses()) == 3, "no step was applied after the sums went wrong"


@pytest.mark.slow
def test_garbage_from_a_rank_is_counted_and_stops_nothing(runs, calm):
    done = runs.run(faults="garbage-event@step:step=3:rank=1,long-log-line@step:step=5:rank=0")
    assert done.code == 0 and done.adapter == calm.adapter, done.err
    assert not done.incidents


@pytest.mark.slow
def test_a_killed_launcher_leaves_nothing_and_resume_ends_with_the_same_bytes(runs, calm):
    process, folder = runs.start()
    try:
        wait_for_step(folder, 5)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=20)
        assert not left_over(folder)
        process, _ = runs.start(again=folder)
        _, err = process.communicate(timeout=100)
    finally:
        process.kill()
    done = Ended(process.returncode, err, (folder / "latest").resolve(), 0)
    assert done.code == 0 and done.adapter == calm.adapter, err


def wait_for_step(runs: Path, step: int, timeout: float = 60) -> None:
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        path = runs / "latest" / "metrics.jsonl"
        if path.exists() and any(json.loads(line)["step"] >= step for line in path.read_text().splitlines()):
            return
        time.sleep(0.05)
    pytest.fail(f"step {step} was not reached within {timeout} s")


def figures(done: Ended, calm: Ended) -> dict[str, float]:
    """Seconds from the fault to its detection, from there to the next step, and steps computed twice."""
    (incident,) = done.incidents
    (marker,) = (done.folder / "faults").iterdir()
    steps = [line["time"] for line in done.metrics() if "loss" in line and line["time"] > incident["time"]]
    return {
        "detected": incident["time"] - marker.stat().st_mtime,
        "recovered": (min(steps) - incident["time"]) if steps else 0.0,
        "lost steps": incident["lost_steps"],
    }


def sweep(runs: Runs, calm: Ended, faults: list[str], *words: str) -> list[dict[str, float]]:
    measured = []
    for fault in faults:
        done = runs.run(*words, faults=fault)
        assert done.code == 0, f"{fault}: {done.err}"
        assert done.adapter == calm.adapter, fault
        assert not left_over(done.folder.parent), fault
        assert len(done.incidents) == 1, f"{fault}: {done.incidents}"
        measured.append(figures(done, calm))
    return measured


def report(what: str, measured: list[dict[str, float]]) -> None:
    print(f"\n{what}: {len(measured)} faults injected, all runs ended with the same bytes")
    for name in ("detected", "recovered", "lost steps"):
        values = [each[name] for each in measured]
        print(f"  {name}: median {statistics.median(values):.1f}, most {max(values):.1f}")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_sweep(runs, calm):
    faults = []
    for place in KILLS:
        for rank in (0, 1):
            # only the first rank of a host writes checkpoints; the other is in its next step meanwhile
            where = place.replace("saving", "applied") if rank else place
            faults.append(f"kill@{where}:rank={rank}")
    measured = sweep(runs, calm, faults)
    report("kill -9", measured)
    assert max(each["detected"] for each in measured) < 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_freeze_sweep(runs, calm):
    draw = random.Random(3)
    places = [
        f"{draw.choice(['step', 'gradient', 'collective', 'applied'])}:step={draw.randint(2, 11)}" for _ in range(6)
    ]
    faults = [f"stop@{place}:rank={number % 2}" for number, place in enumerate(places)]
    faults += [f"freeze@gradient:step={draw.randint(2, 11)}:rank={rank}" for rank in (0, 1)]
    measured = sweep(runs, calm, faults, "--stall-after", "5")
    report("frozen, deadline 5 s", measured)
    assert max(each["detected"] for each in measured) < 5 + 2
