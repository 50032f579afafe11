"""How long `thunder runs` takes with many runs: python benchmarks/registry.py [COUNT]; folders are temporary."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from thunder.runs.listing import conditions, run_index

OPTIONS = {f"option_{number}": number for number in range(40)}
MODES = ("baseline", "trajectory", "tar", "trajectory+ttt")


def make_runs(root: Path, count: int) -> None:
    """So many finished runs, with as many options as ours have."""
    for number in range(count):
        folder = root / f"2026{number % 12 + 1:02}{number % 28 + 1:02}-120000-run-{number:05}"
        folder.mkdir()
        settings = OPTIONS | {"mode": MODES[number % 4], "seed": number, "learning_rate": (1 + number % 9) * 1e-4}
        plan = {"job": "asr", "length": {"updates": 400}, "settings": settings}
        (folder / "plan.json").write_text(json.dumps(plan))
        (folder / "config.yaml").write_text("mode: baseline\n")
        (folder / "metrics.jsonl").write_text('{"step": 400, "loss": 0.5}\n' * 40)
        (folder / "results.json").write_text(json.dumps({"steps": 400, "test": {"cer": number % 1000 / 1000}}))


def time_call(name: str, ask) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    rows = ask()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:44} {len(rows):6} rows  {wall:7.3f} s wall  {cpu:7.3f} s CPU")


COMMANDS = {
    "list": ["list"],
    "list, newest 20": ["list", "-n", "20"],
    "filter": ["filter", "mode=trajectory", "lr<5e-4", "cer<0.3", "--sort", "cer"],
    "table": ["table", "--by", "mode"],
    "list --json": ["list", "--json"],
}


def child_cpu_seconds() -> float:
    """CPU seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def time_command(root: Path, words: list[str], rounds: int = 5) -> tuple[float, float]:
    """(wall seconds, CPU seconds) of a whole command, Python's start and all; the middle of some rounds."""
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), child_cpu_seconds()
        command = [sys.executable, "-P", "-m", "thunder", "runs", *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"THUNDER_RUNS": str(root)})
        walls.append(time.perf_counter() - wall)
        cpus.append(child_cpu_seconds() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def main(count: int) -> None:
    """Make the runs, then ask for them as the commands do, and by the commands."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        make_runs(root, count)
        time_call("first look (reads every folder)", lambda: run_index.list_runs(root))
        filters = [conditions.parse_condition(text) for text in ("mode=trajectory", "lr<5e-4", "cer<0.3")]
        for _ in range(2):
            time_call("list", lambda: run_index.list_runs(root))
            time_call("filter (mode, lr, cer), sorted by cer", lambda: run_index.list_runs(root, filters, sort="cer"))
            time_call("newest 20", lambda: run_index.list_runs(root, limit=20))
        for name, words in COMMANDS.items():
            wall, cpu = time_command(root, words)
            print(f"thunder runs {name:31} {wall:19.3f} s wall  {cpu:7.3f} s CPU")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
