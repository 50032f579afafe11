"""What supervision costs: the same two ranks under `thunder train`, with nobody beside them, and under `mlx.launch`.

    .venv/bin/python benchmarks/supervision.py [--rounds 4] [--iters 300] [--batch-size 4]

They run in turns (A B C A B C ...). Prints two ratios of medians over rounds: seconds a step, supervised over bare (two
processes that send no events and that nobody watches); and seconds from the command to the end of the first step,
thunder over mlx.launch, which plans nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from thunder.cluster.inventory.ports import free_ports

REPOSITORY = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
# mlx.launch tells a rank its number in its own words only
ONE_RANK = """
import os, sys
os.environ["THUNDER_RANK"] = os.environ["MLX_RANK"]
from thunder.cli.main import main
sys.exit(main(["rank", sys.argv[1], "--job", "train"]))
"""


def train_options(iters: int, batch_size: int) -> list[str]:
    """No test and no validation within the run: what is timed is steps."""
    words = f"--iters {iters} --batch-size {batch_size} --steps-per-report 1 --save-every {iters} --num-layers 4"
    return [*words.split(), "--steps-per-eval", str(iters), "--ranks", "2"]


def step_times(folder: Path, begun: float, skip: int = 20) -> tuple[float, float]:
    """(median seconds a step after the first ones, seconds from the command to the first step)."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    times = [line["time"] for line in lines if "loss" in line]
    gaps = [after - before for before, after in zip(times[skip:], times[skip + 1 :], strict=False)]
    return statistics.fmean(gaps), times[0] - begun


def time_thunder(root: Path, data: Path, words: list[str]) -> tuple[float, float]:
    """One run as a user starts it."""
    runs = root / f"runs-{time.monotonic_ns()}"
    begun = time.time()
    command = [PYTHON, "-P", "-m", "thunder", "train", "--data", str(data), *words]
    environ = os.environ | {"THUNDER_RUNS": str(runs), "THUNDER_STATE": str(root / "state")}
    subprocess.run(command, cwd=REPOSITORY, env=environ, check=True, capture_output=True, timeout=600)
    return step_times((runs / "latest").resolve(), begun)


def make_config_folder(root: Path, config: Path) -> Path:
    """A run's folder with nothing but the configuration."""
    folder = root / f"plain-{time.monotonic_ns()}"
    folder.mkdir()
    shutil.copy(config, folder / "config.yaml")
    (root / "one_rank.py").write_text(ONE_RANK)
    return folder


def time_unsupervised(root: Path, config: Path, environ: dict[str, str]) -> tuple[float, float]:
    """The same ranks as two processes that are only waited for."""
    folder = make_config_folder(root, config)
    (folder / "hostfile.json").write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_ports(2)]))
    begun = time.time()
    ranks = []
    for rank in range(2):
        rank_env = {"MLX_RANK": str(rank), "MLX_HOSTFILE": str(folder / "hostfile.json")}
        command = [PYTHON, str(root / "one_rank.py"), str(folder)]
        with (folder / f"{rank}.log").open("w") as log:
            # in sessions of their own, as thunder starts them: Linux shares a busy machine out by session
            process = subprocess.Popen(
                command, cwd=REPOSITORY, env=environ | rank_env, stdout=log, stderr=log, start_new_session=True
            )
            ranks.append(process)
    assert [rank.wait(600) for rank in ranks] == [0, 0]
    return step_times(folder, begun)


def time_mlx_launch(root: Path, config: Path, environ: dict[str, str]) -> tuple[float, float]:
    """The same ranks with the same configuration, started by MLX's own launcher."""
    folder = make_config_folder(root, config)
    begun = time.time()
    command = [str(Path(PYTHON).with_name("mlx.launch")), "-n", "2", "--backend", "ring", "--"]
    subprocess.run(
        [*command, PYTHON, str(root / "one_rank.py"), str(folder)],
        cwd=REPOSITORY,
        env=environ,
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=600,
    )
    return step_times(folder, begun)


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--iters", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=4)
    given = parser.parse_args()
    words = train_options(given.iters, given.batch_size)
    with tempfile.TemporaryDirectory(prefix="thunder-bench-") as name:
        root = Path(name)
        data = root / "data"
        data.mkdir()
        for part in ("train", "valid"):
            shutil.copy(REPOSITORY / "data" / "sample" / f"{part}.jsonl", data)
        time_thunder(root, data, words)  # warms the caches of both, and leaves the configuration and the environment
        first = next(root.glob("runs-*")).resolve() / "latest"
        plan = json.loads((first / "plan.json").read_text())["ranks"][0]["env"]
        shared = {key: value for key, value in plan.items() if key.startswith(("OPENBLAS", "OMP", "LD_", "PYTHON"))}
        environ = os.environ | shared | {"THUNDER_WORLD_SIZE": "2", "THUNDER_JOB_ID": "1"}
        arms = {
            "thunder": lambda: time_thunder(root, data, words),
            "bare": lambda: time_unsupervised(root, first / "config.yaml", environ),
            "mlx.launch": lambda: time_mlx_launch(root, first / "config.yaml", environ),
        }
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
        for turn in range(given.rounds):
            for name, arm in arms.items():
                measured[name].append(arm())
            parts = [f"{name} {runs[-1][0] * 1000:.1f} ms, {runs[-1][1]:.2f} s" for name, runs in measured.items()]
            print(f"round {turn + 1} (a step, to the first step): {'; '.join(parts)}", flush=True)
    for place, what, peer in ((0, "seconds a step", "bare"), (1, "command to first step", "mlx.launch")):
        pair = [statistics.median(each[place] for each in measured[name]) for name in ("thunder", peer)]
        print(f"{what}, thunder / {peer}: {pair[0]:.4f} s / {pair[1]:.4f} s = {pair[0] / pair[1]:.3f}")


if __name__ == "__main__":
    main()
