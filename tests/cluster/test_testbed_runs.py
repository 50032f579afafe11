"""Whole runs over real ssh, from mac1 onto mac4 and mac5, with the ring on the cable: faults, and the same bytes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import make_rows, write_rows
from test_testbed import CABLE_OF_4, CABLE_OF_5, LAN_OF_5, MACS, REPOSITORY, Testbed, fault, macs, pytestmark

__all__ = ["fault", "macs", "pytestmark"]

OPTIONS = "--steps-per-report 1 --steps-per-eval 6 --save-every 3 --num-layers 2 --stall-after 6 --learning-rate 5e-4"
OPTIONS += " --max-epochs 100000"


class Desk:
    """Starts runs from mac1; their folders there, and on each host, are of their own."""

    def __init__(self, testbed: Testbed, root: Path, model: Path) -> None:
        self.testbed, self.root, self.count = testbed, root, 0
        data = root / "data"
        data.mkdir()
        for number, (part, rows) in enumerate({"train": 9, "valid": 3, "test": 2}.items()):
            write_rows(data / f"{part}.jsonl", make_rows(rows, seed=number))
        self.options = [*OPTIONS.split(), "--model", str(model), "--data", str(data)]
        self.cluster = root / "desk.yaml"
        hosts = "".join(
            f"  - {{name: {name}, ssh: {ssh}, ips: [{ip}], runs: ~/runs, "
            f"python: {sys.executable}, folder: {REPOSITORY}}}\n"
            for name, ssh, ip in (("Mac4", "mac4", CABLE_OF_4), ("Mac5", "mac5", CABLE_OF_5))
        )
        # one thread, as two ranks on this machine have; kernels that were compiled once are enough
        self.cluster.write_text(f"hosts:\n{hosts}env: {{OPENBLAS_NUM_THREADS: '1', TMPDIR: /tmp}}\n")

    def start(self, *words: str, faults: str = "", again: bool = False, iters: int = 12) -> subprocess.Popen:
        self.count += not again
        self.runs = self.root / f"runs{self.count}"
        command = (
            ["resume"] if again else ["train", "--cluster", str(self.cluster), *self.options, "--iters", str(iters)]
        )
        said = [f"THUNDER_RUNS={self.runs}", f"THUNDER_STATE={self.root / 'state'}", f"PYTHONPATH={REPOSITORY}"]
        said += [f"THUNDER_FAULTS={faults}"] if faults else []
        self.log = (self.root / f"log{self.count}-{again}.txt").open("w+")
        return subprocess.Popen(
            [sys.executable, str(MACS), "exec", "mac1", "env", *said]
            + [sys.executable, "-P", "-m", "thunder", *command, *words],
            env=self.testbed.environ,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def finish(self, process: subprocess.Popen, timeout: float = 150) -> tuple[int, str]:
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        self.log.seek(0)
        return code, self.log.read()

    def run(self, *words: str, faults: str = "", iters: int = 12) -> tuple[int, str]:
        return self.finish(self.start(*words, faults=faults, iters=iters))

    @property
    def folder(self) -> Path:
        return (self.runs / "latest").resolve()

    @property
    def adapter(self) -> str:
        return hashlib.sha256((self.folder / "adapters" / "adapters.safetensors").read_bytes()).hexdigest()

    @property
    def incidents(self) -> list[dict]:
        path = self.folder / "incidents.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for(self, text: str, process: subprocess.Popen, timeout: float = 90) -> None:
        until = time.monotonic() + timeout
        while time.monotonic() < until and process.poll() is None:
            if text in Path(self.log.name).read_text():
                return
            time.sleep(0.1)
        pytest.fail(f"'{text}' did not come within {timeout} s: {Path(self.log.name).read_text()[-2000:]}")

    def left_over(self, hosts: tuple[str, ...] = ("mac1", "mac4", "mac5")) -> list[str]:
        until = time.monotonic() + 5
        while True:
            found = []
            for host in hosts:
                said = self.testbed.on(host, "ps", "-axo", "pid=,stat=,command=").stdout
                lines = [line for line in said.splitlines() if "thunder" in line and " Z" not in line]
                found += [f"{host}: {line}" for line in lines]
            if not found or time.monotonic() > until:
                return found
            time.sleep(0.2)


@pytest.fixture(scope="module")
def desk(macs, tmp_path_factory, tiny_model):
    return Desk(macs, tmp_path_factory.mktemp("desk"), tiny_model)


@pytest.fixture(scope="module")
def calm(desk):
    """SHA-256 of the adapter of the same run on loopback, and of one over ssh that nothing disturbs."""
    code, said = desk.run("--cluster", "local")
    assert code == 0, said
    return desk.adapter


def test_the_same_bytes_as_on_loopback(desk, calm):
    code, said = desk.run()
    assert code == 0, said
    assert desk.adapter == calm
    for name in ("results.json", "metrics.jsonl", "test_predictions.jsonl", "adapters/adapter_config.json"):
        assert (desk.folder / name).is_file(), "what the run made comes home"
    assert json.loads((desk.folder / "plan.json").read_text())["ranks"][1]["address"].startswith(CABLE_OF_5)
    assert not desk.left_over()


@pytest.mark.parametrize("place", ["loading", "collective:step=5", "saving:step=6"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank(desk, calm, place, rank):
    code, said = desk.run(faults=f"kill@{place}:rank={rank}")
    assert code == 0 and desk.adapter == calm, said
    assert [each["kind"] for each in desk.incidents] == ["killed"]
    assert not desk.left_over()


def test_a_cable_that_is_cut_and_healed(desk, calm, fault):
    process = desk.start(faults="freeze@joining:rank=7")
    desk.wait_for("step 2/12", process)
    fault("fault", "tb-cut", back=("fault", "tb-heal"))
    desk.wait_for("waiting for", process, timeout=40)
    desk.testbed("fault", "tb-heal")
    code, said = desk.finish(process)
    assert code == 0 and desk.adapter == calm, said
    assert "link" in said and [each["kind"] for each in desk.incidents] == ["hang"]
    assert not desk.left_over()


def test_a_host_whose_processes_all_die(desk, calm):
    process = desk.start()
    desk.wait_for("step 4/12", process)
    desk.testbed("fault", "kill-procs", "mac5")
    code, said = desk.finish(process)
    assert code == 0 and desk.adapter == calm, said
    assert desk.incidents[0]["kind"] == "host lost" and desk.incidents[0]["host"] == "Mac5"
    assert not desk.left_over()


def test_a_launcher_that_is_killed_and_started_again(desk, calm):
    process = desk.start()
    desk.wait_for("step 4/12", process)
    desk.testbed.on("mac1", "pkill", "-9", "-f", "thunder train")
    process.wait(20)
    assert not desk.left_over()
    code, said = desk.finish(desk.start(again=True))
    assert code == 0 and desk.adapter == calm, said


def test_a_host_that_is_switched_off_and_on(desk, calm, fault):
    process = desk.start()
    desk.wait_for("step 4/12", process)
    fault("fault", "kill-host", "mac5", back=("fault", "boot-host", "mac5"))
    desk.wait_for("waiting for Mac5", process, timeout=60)
    desk.testbed("fault", "boot-host", "mac5")
    code, said = desk.finish(process)
    assert code == 0 and desk.adapter == calm, said
    assert not desk.left_over()


@pytest.mark.timeout(400)
def test_one_goes_on_alone_and_is_joined_again(desk, fault):
    process = desk.start("--allow-solo", "2", "--save-every", "40", "--steps-per-eval", "400", iters=3000)
    desk.wait_for("step 60/3000", process)
    fault("fault", "kill-host", "mac4", back=("fault", "boot-host", "mac4"))
    desk.wait_for("going on without Mac4", process, timeout=90)
    desk.wait_for("step 90/3000", process)
    desk.testbed("fault", "boot-host", "mac4")
    desk.wait_for("joining again", process, timeout=90)
    code, said = desk.finish(process, 200)
    assert code == 0, said
    results = json.loads((desk.folder / "results.json").read_text())
    assert results["ranks"] == 2 and results["global_batch_size"] == 2 and results["steps"] == 3000
    assert not desk.left_over()


def test_a_cable_that_is_cut_before_the_run_is_a_failure_that_names_the_pair(desk, fault):
    fault("fault", "tb-cut", back=("fault", "tb-heal"))
    begun = time.monotonic()
    code, said = desk.run()
    assert code == 6 and "Mac4 -> Mac5" in said and "Thunderbolt cable" in said and time.monotonic() - begun < 20
    assert not desk.left_over()


def test_a_link_check_can_be_skipped_and_the_run_says_so(desk, calm, fault):
    for host, ip, lan in (("mac4", CABLE_OF_5, LAN_OF_5), ("mac5", CABLE_OF_4, "192.168.77.4")):
        way = (f"{ip}/32", "via", lan, "dev", "en0")
        fault("exec", host, "ip", "route", "add", *way, back=("exec", host, "ip", "route", "del", *way))
    code, said = desk.run()
    assert code == 6 and "en0" in said
    code, said = desk.run("--skip-link-check")
    assert code == 0 and desk.adapter == calm, said
    plan = json.loads((desk.folder / "plan.json").read_text())
    assert plan["skipped_checks"] and plan["settings"]["skip_link_check"]


def test_ctrl_c_saves_and_resume_goes_on(desk):
    process = desk.start(iters=400)
    desk.wait_for("step 4/400", process)
    desk.testbed.on("mac1", "pkill", "-INT", "-f", "thunder train")
    code, said = desk.finish(process)
    assert code == 130 and "with a checkpoint" in said
    assert not desk.left_over()
    code, said = desk.finish(desk.start(again=True))
    assert code == 0, said
    steps = [json.loads(line)["step"] for line in (desk.folder / "metrics.jsonl").read_text().splitlines()]
    assert json.loads((desk.folder / "results.json").read_text())["steps"] == 400 and set(steps) == set(range(401))
