"""Whole runs as a user starts them: real launcher, real ranks, real training on a tiny random model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import REPOSITORY, make_rows, run_main, write_rows

from thunder.text import distance

pytestmark = pytest.mark.expensive


class Launcher:
    """Starts `thunder train`, with a runs folder of its own."""

    def __init__(self, data: Path, model: Path, runs: Path) -> None:
        self.runs = runs
        self.common = ["--model", str(model), "--data", str(data), "--learning-rate", "5e-4", "--save-every", "4"]
        self.common += [
            "--steps-per-report",
            "1",
            "--steps-per-eval",
            "5",
            "--num-layers",
            "2",
            "--max-epochs",
            "100000",
        ]
        self.processes: list[subprocess.Popen] = []

    def start(self, *words: str, command: str = "train") -> subprocess.Popen:
        options = self.common if command == "train" else []
        self.before = (self.runs / "latest").resolve()
        process = subprocess.Popen(
            [sys.executable, "-m", "thunder", command, *options, *words],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"THUNDER_RUNS": str(self.runs)},
        )
        self.processes.append(process)
        return process

    def finish(self, process: subprocess.Popen, timeout: float = 90) -> tuple[int, str, str]:
        out, err = process.communicate(timeout=timeout)
        return process.returncode, out, err

    def run(self, *words: str, command: str = "train") -> tuple[int, str, str]:
        return self.finish(self.start(*words, command=command))

    def refused(self, *words: str, command: str = "train") -> tuple[int, str, str]:
        """The same in this process, where nothing is started."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("THUNDER_RUNS", str(self.runs))
            return run_main(command, *(self.common if command == "train" else []), *words)

    def folder_of(self, err: str) -> Path:
        return self.runs / next(line for line in err.splitlines() if line.startswith("plan: ")).split()[2]

    def wait_for_step(self, process: subprocess.Popen, step: int, timeout: float = 60) -> Path:
        """The folder of the run, once it has come so far."""
        until = time.monotonic() + timeout
        while time.monotonic() < until and process.poll() is None:
            folder = (self.runs / "latest").resolve()
            metrics = folder / "metrics.jsonl"
            if folder != self.before and metrics.is_file() and f'"step": {step},' in metrics.read_text():
                return folder
            time.sleep(0.05)
        raise AssertionError(f"step {step} was not reached: {process.communicate(timeout=5)}")


@contextlib.contextmanager
def launcher_in(folder: Path, model: Path):
    """A launcher with 21 training rows, 5 for validation and 4 for the test."""
    data = folder / "data"
    data.mkdir()
    for seed, (part, count) in enumerate({"train": 21, "valid": 5, "test": 4}.items()):
        write_rows(data / f"{part}.jsonl", make_rows(count, seed=seed))
    made = Launcher(data, model, folder / "runs")
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()


@pytest.fixture
def launcher(tmp_path, tiny_model):
    with launcher_in(tmp_path, tiny_model) as made:
        yield made


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model):
    """A launcher whose run of four steps is over, for tests that start no other; and what the run printed."""
    with launcher_in(tmp_path_factory.mktemp("finished"), tiny_model) as made:
        code, out, err = made.run("--iters", "4")
        assert code == 0, err
        yield made, out, err


def ranks_of(process: subprocess.Popen) -> list[psutil.Process]:
    return [child for child in psutil.Process(process.pid).children(recursive=True) if "rank" in child.cmdline()]


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_run_leaves_all_that_it_promises(launcher, tmp_path):
    copied = tmp_path / "mine"
    code, out, err = launcher.run("--iters", "8", "--json", "--adapter-path", str(copied))
    assert code == 0, err
    folder = launcher.folder_of(err)
    results = json.loads((folder / "results.json").read_text())
    for name in (
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "train.log",
        "plan.json",
        "test_predictions.jsonl",
    ):
        assert (folder / name).stat().st_size > 0, name
    assert json.loads(out)["test"] == results["test"], "with --json there is one JSON value on stdout and nothing else"
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["base"]["sha256"] and environment["data_sha256"]["train"] and environment["versions"]["mlx"]
    # the error rates can be recomputed from the rows beside them
    rows = [json.loads(line) for line in (folder / "test_predictions.jsonl").read_text().splitlines()]
    assert len(rows) == results["test"]["rows"] == 4
    characters = sum(len(row["reference_text"]) for row in rows)
    for when in ("before", "after"):
        # space around an answer is not counted
        edits = sum(distance.edit_distance(row[f"prediction_{when}"].strip(), row["reference_text"]) for row in rows)
        assert results["test"][f"cer_{when}"] == pytest.approx(edits / characters)
    adapter = {path.name for path in (folder / "adapters").iterdir()}
    assert adapter == {"adapters.safetensors", "adapter_config.json", "chat_template.jinja", "best"}
    assert {path.name for path in (folder / "adapters" / "best").iterdir()} == {
        "adapters.safetensors",
        "adapter_config.json",
        "chat_template.jinja",
    }
    assert sha(copied / "adapters.safetensors") == sha(folder / "adapters" / "adapters.safetensors")
    assert (launcher.runs / "latest").resolve() == folder
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps if "loss" in row] == list(range(1, 9))
    assert [row["step"] for row in steps if "valid_loss" in row] == [0, 5, 8]
    assert "2 ranks" in err and "1 per rank, 2 global" in err
    # the run's own file runs again, to the same bytes
    code, out, err = launcher.run("-c", str(folder / "config.yaml"))
    assert code == 0, err
    assert "test CER" in out and "next:" in out
    assert sha(launcher.folder_of(err) / "adapters" / "adapters.safetensors") == sha(
        folder / "adapters" / "adapters.safetensors"
    )


def test_ctrl_c_leaves_a_checkpoint_and_resuming_ends_in_the_same_bytes(launcher):
    whole = launcher.run("--iters", "60")
    assert whole[0] == 0, whole[2]
    process = launcher.start("--iters", "60")
    folder = launcher.wait_for_step(process, 7)
    ranks = ranks_of(process)
    assert len(ranks) == 2
    process.send_signal(signal.SIGINT)
    code, _, err = launcher.finish(process)
    assert code == 130, err
    assert "with a checkpoint" in err and "launch.sh resume" in err
    assert not any(rank.is_running() for rank in ranks)
    assert list((folder / "checkpoints").glob("step-*"))
    assert not (folder / "results.json").exists()
    code, _, err = launcher.run(folder.name, command="resume")
    assert code == 0, err
    assert sha(folder / "adapters" / "adapters.safetensors") == sha(
        launcher.folder_of(whole[2]) / "adapters" / "adapters.safetensors"
    )


def test_a_killed_rank_is_named_and_the_run_goes_on(launcher):
    process = launcher.start("--iters", "80")
    launcher.wait_for_step(process, 3)
    ranks = ranks_of(process)
    ranks[1].send_signal(signal.SIGKILL)
    code, _, err = launcher.finish(process)
    assert code == 0, err
    assert "rank 1 on local-1 was killed by SIGKILL" in err and "starting again" in err and "Traceback" not in err
    assert not any(rank.is_running() for rank in ranks)


def test_a_rank_that_dies_at_start_shows_its_own_error(launcher, tiny_model, tmp_path):
    """The plan sees a good model, the rank a damaged one: as when a host's copy differs."""
    damaged = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((damaged / "config.json").read_text())
    (damaged / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    code, _, err = launcher.run("--iters", "3", "--model", str(damaged))
    assert code == 2
    assert re.search(r"rank [01] on local-[01]: ", err) and "mlx_lm cannot load it" in err


def test_resuming_with_other_options_or_other_data_is_refused(finished):
    launcher, _, err = finished
    name = launcher.folder_of(err).name
    code, _, err = launcher.refused("--resume", name, "--seed", "8")
    assert code == 2 and "seed: 0 in the run, 8 now" in err
    rows = launcher.runs.parent / "data" / "train.jsonl"
    before = rows.read_bytes()
    write_rows(rows, make_rows(22))
    try:
        code, _, err = launcher.refused(name, command="resume")
    finally:
        rows.write_bytes(before)
    assert code == 2 and "rows (SHA-256)" in err


def test_rows_that_are_not_chatml_yet_are_mapped_and_counted(launcher, tmp_path):
    pairs = [
        {"id": f"p{i}", "before": row["messages"][0]["content"], "after": row["messages"][1]["content"]}
        for i, row in enumerate(make_rows(60))
    ]
    path = write_rows(tmp_path / "pairs.jsonl", pairs)
    launcher.common = [word for word in launcher.common if word not in ("--data", str(tmp_path / "data"))]
    code, out, err = launcher.run(
        "--iters", "3", "--train-data", str(path), "--holdout", "0.1", "--max-seq-length", "64"
    )
    assert code == 0, err
    said = " ".join(err.split())  # the plan's lines are folded
    assert "before -> user, after -> assistant" in said
    assert "held out of the training rows" in said and "over limit" in said


def test_early_stopping_and_one_rank(launcher):
    code, _, err = launcher.run("--iters", "400", "--ranks", "1", "--learning-rate", "0.5", "--patience", "2")
    assert code == 0, err
    results = json.loads((launcher.folder_of(err) / "results.json").read_text())
    assert results["steps"] < 400 and "2 validations" in results["stopped_early"] and results["ranks"] == 1


def test_a_finished_plan_without_a_terminal_has_plain_lines_only(finished):
    _, out, err = finished
    assert "\x1b" not in out + err and "\r" not in out + err


def test_nothing_is_started_where_the_plan_fails(launcher, tmp_path):
    (tmp_path / "data" / "train.jsonl").write_text(
        '{"messages": []}\nnot json\n{"messages": [{"role": "user", "content": "x"}]}\n'
    )
    code, _, err = launcher.refused("--iters", "2")
    assert code == 2
    assert all(f"train.jsonl:{line}: " in err for line in (1, 2, 3))
    assert not launcher.runs.exists()


@pytest.mark.slow
def test_going_on_after_early_stopping_trains_no_further(launcher):
    code, _, err = launcher.run("--iters", "400", "--ranks", "1", "--learning-rate", "0.5", "--patience", "2")
    assert code == 0, err
    folder = launcher.folder_of(err)
    before = sha(folder / "adapters" / "adapters.safetensors")
    results = json.loads((folder / "results.json").read_text())
    code, _, err = launcher.run(folder.name, command="resume")
    assert code == 0, err
    assert sha(folder / "adapters" / "adapters.safetensors") == before
    assert json.loads((folder / "results.json").read_text()) == results


@pytest.mark.slow
def test_a_validation_that_a_stop_left_out_is_made_up_for(launcher, tmp_path):
    """Ctrl-C in a validation too long to wait for: saved at once, and the resumed run has every validation."""
    write_rows(tmp_path / "data" / "valid.jsonl", make_rows(700, seed=3))
    process = launcher.start("--iters", "10", "--test-rows", "0", "--steps-per-eval", "4")
    folder = launcher.wait_for_step(process, 4)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    code, _, err = launcher.finish(process)
    assert code == 130, err
    assert time.monotonic() - started < 15, "it waited for the whole validation"
    assert (folder / "checkpoints" / "step-0000004").is_dir()
    code, _, err = launcher.run(folder.name, command="resume")
    assert code == 0, err
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "valid_loss" in row] == [0, 4, 8, 10]


def test_a_run_that_is_going_on_cannot_be_resumed(launcher):
    process = launcher.start("--iters", "100000")
    folder = launcher.wait_for_step(process, 2)
    code, _, err = launcher.run(folder.name, command="resume")
    assert code == 2 and f"is already running, started by process {process.pid}" in err
    assert process.poll() is None


def test_a_refused_run_leaves_nothing_and_latest_stays(finished, tmp_path):
    launcher = finished[0]
    before = sorted(path.name for path in launcher.runs.iterdir())
    latest = (launcher.runs / "latest").resolve()
    cluster = tmp_path / "far.yaml"
    cluster.write_text("hosts:\n  - {name: Mac4, ssh: Mac4, ips: [10.0.5.1]}\n")
    code, _, err = launcher.refused("--cluster", str(cluster))
    assert code == 6 and "Mac4" in err
    assert sorted(path.name for path in launcher.runs.iterdir()) == before
    assert (launcher.runs / "latest").resolve() == latest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--adapter-path", "/dev/null/x"], "no folder that can be written to"),
        (["--resume", "-c", "{config}"], "leave -c out"),
        (["-c", "{config}"], "'resume' is no option of a file"),
        (["--valid-data", "{long}", "--max-seq-length", "40"], "validation rows has its completion within 40 tokens"),
        (["--patience", "1", "--data", "{alone}", "--holdout", "0"], "--patience 1 needs validation rows"),
    ],
)
def test_what_would_fail_or_mislead_later_is_refused_at_once(finished, tmp_path, words, said):
    launcher = finished[0]
    config = tmp_path / "run.yaml"
    config.write_text("resume: latest\niters: 3\n")
    (tmp_path / "alone").mkdir()
    write_rows(tmp_path / "alone" / "train.jsonl", make_rows(5))
    long = write_rows(
        tmp_path / "long.jsonl",
        [
            make_rows(1)[0]
            | {"messages": [{"role": "user", "content": "ߊ " * 99}, {"role": "assistant", "content": "ߊ"}]}
        ],
    )
    code, _, err = launcher.refused(
        *(word.format(config=config, long=long, alone=tmp_path / "alone") for word in words)
    )
    assert code == 2 and said in err, err
    assert "Traceback" not in err


def test_a_runs_folder_that_cannot_be_made_is_no_traceback(launcher):
    launcher.runs = Path("/dev/null/runs")
    code, _, err = launcher.refused("--iters", "1")
    assert code == 2 and "/dev/null" in err and "Traceback" not in err


@pytest.mark.slow
def test_a_run_goes_on_from_another_folder_and_without_its_starting_adapter(launcher, tmp_path, monkeypatch):
    code, _, err = launcher.run("--iters", "2", "--test-rows", "0", "--adapter-path", str(tmp_path / "first"))
    assert code == 0, err
    code, _, err = launcher.run("--iters", "4", "--test-rows", "0", "--resume-adapter-file", str(tmp_path / "first"))
    assert code == 0, err
    folder = launcher.folder_of(err)
    shutil.rmtree(tmp_path / "first")
    shutil.rmtree(folder / "adapters")
    done = subprocess.run(
        [sys.executable, "-m", "thunder", "resume", str(folder)],
        cwd=tmp_path, env=os.environ | {"THUNDER_RUNS": str(launcher.runs)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
