"""`thunder status` over real ssh between network namespaces: a healthy cluster, and each thing that can break."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from thunder.cluster.health import cluster_status

REPOSITORY = Path(__file__).parents[2]
MACS = Path(os.environ.get("THUNDER_TESTBED", REPOSITORY.parent / "shared" / "testbed" / "macs"))
LAN_OF_5, CABLE_OF_4, CABLE_OF_5 = "192.168.77.5", "10.77.0.1", "10.77.0.2"
LIMIT = 15  # seconds, for a look at a cluster whatever is broken

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.skipif(
        not MACS.is_file(), reason=f"the network testbed is not at {MACS} (THUNDER_TESTBED names another)"
    ),
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="the network testbed needs root"),
]


class Testbed:
    """Two pretend Macs and a third machine, in namespaces of our own."""

    __test__ = False

    def __init__(self, folder: Path):
        self.state = folder / "state"
        self.environ = os.environ | {
            "MACS_STATE": str(self.state),
            "MACS_PREFIX": f"t{os.getpid() % 10000}",
        }
        self.cluster = folder / "desk.yaml"
        self.python = str(folder / "python")  # ssh passes no PYTHONPATH on
        Path(self.python).write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} "$@"\n')
        Path(self.python).chmod(0o755)
        hosts = [("Mac4", "mac4", CABLE_OF_4), ("Mac5", "mac5", CABLE_OF_5)]
        lines = [
            f"  - {{name: {name}, ssh: {ssh}, ips: [{ip}], python: {self.python}, folder: {REPOSITORY}}}\n"
            for name, ssh, ip in hosts
        ]
        self.cluster.write_text("hosts:\n" + "".join(lines))

    def __call__(self, *words: str, check: bool = True, timeout: float = 40) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(MACS), *words]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=timeout, check=check)

    def on(self, host: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self("exec", host, *words, check=check)

    def status(self, *flags: str) -> tuple[int, str]:
        """Exit code and stdout of `thunder status`, called on mac1; it may not take longer than it promises."""
        begun = time.monotonic()
        words = (sys.executable, "-P", "-m", "thunder", "status", "--cluster", str(self.cluster), *flags)
        done = self.on("mac1", *words, check=False)
        assert time.monotonic() - begun < LIMIT
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout

    def failures(self) -> tuple[int, dict[tuple[str, str], dict]]:
        """Exit code, and what failed by check and place; the whole report is in `said`."""
        code, text = self.status("--json")
        said = self.said = json.loads(text)
        assert said["healthy"] == (code == 0)
        return code, {(f["check"], f["where"]): f for f in said["findings"] if f["state"] == "failure"}

    @contextlib.contextmanager
    def instead(self, content: dict):
        """Another cluster file for as long."""
        before = self.cluster.read_text()
        self.cluster.write_text(json.dumps(content))  # JSON is YAML
        try:
            yield
        finally:
            self.cluster.write_text(before)

    def before_a_run(self, settings: dict, ports: tuple[int, ...] = (20001, 20002)) -> dict[tuple[str, str], dict]:
        """What fails before a run with these settings, asked for on mac1."""
        program = (
            "import json, sys; from pathlib import Path; from dataclasses import asdict; "
            "from thunder.cluster.inventory import cluster_file; from thunder.cluster.health import job_survey; "
            "cluster = cluster_file.load_cluster(Path(sys.argv[1])); "
            "found, _, _ = job_survey.check_before_run(cluster, *json.loads(sys.argv[2])); "
            "print(json.dumps([asdict(each) for each in found]))"
        )
        request = {"job": "train", "settings": settings, "ranks": 2}
        words = (sys.executable, "-P", "-c", program, str(self.cluster), json.dumps([request, ports]))
        done = self.on("mac1", *words)
        return {(f["check"], f["where"]): f for f in json.loads(done.stdout) if f["state"] == "failure"}

    def until_healthy(self) -> None:
        """After a fault was taken back: the first ping may still be lost."""
        for _ in range(10):
            if all(
                self.on(host, "ping", "-c1", "-W1", peer, check=False).returncode == 0
                for host, peer in (("mac4", CABLE_OF_5), ("mac5", CABLE_OF_4))
            ):
                return
            time.sleep(0.3)
        pytest.fail("the testbed did not get well again")


@pytest.fixture(scope="module")
def macs(tmp_path_factory):
    testbed = Testbed(tmp_path_factory.mktemp("macs"))
    try:
        started = testbed("up", check=False)
        if started.returncode == 77:
            pytest.skip(started.stderr.strip())
        assert started.returncode == 0, started.stderr
        testbed.until_healthy()
        yield testbed
    finally:
        testbed("down", check=False)


@pytest.fixture
def fault(macs):
    """Make a fault; it is taken back at the end of the test."""
    undo = []

    def make(*words: str, back: tuple[str, ...]) -> None:
        undo.append(back)
        macs(*words)

    yield make
    for words in undo:  # a test may have taken its fault back itself
        macs(*words, check=False)
    if undo:
        macs.until_healthy()


def test_healthy(macs):
    code, text = macs.status()
    assert code == 0, text
    assert "[Mac4 10.77.0.1] ========= [Mac5 10.77.0.2]" in text
    for line in ("Mac4 -> Mac5", "Mac5 -> Mac4"):
        (drawn,) = [each for each in text.splitlines() if each.startswith(f"  {line} ")]
        assert re.search(r" ms  [\d.]+ [MG]B/s  by bridge0, MTU 9000", drawn)
    reach = macs.on("mac1", "ping", "-c1", "-W1", CABLE_OF_4, check=False)
    assert reach.returncode != 0, "and that although this machine itself does not reach the cable's addresses"
    _, text = macs.status("--json")
    said = json.loads(text)
    assert all(0 < link["rtt_ms"] < 2 and link["interface"] == "bridge0" for link in said["links"])
    assert all(link["bytes_per_second"] > 100e6 for link in said["links"])
    assert said["hosts"][0]["software"] == said["hosts"][1]["software"]


@pytest.mark.parametrize("kind, carrier", [("cut", True), ("loss", False)])
def test_a_cut_cable(macs, fault, kind, carrier):
    if kind == "cut":
        fault("fault", "tb-cut", back=("fault", "tb-heal"))
    else:
        fault("fault", "tb-loss", "100", back=("fault", "tb-loss", "0"))
    code, found = macs.failures()
    assert code == 6
    for pair in ("Mac4 -> Mac5", "Mac5 -> Mac4"):
        assert "link down" in found["link", pair]["found"] and "Thunderbolt cable" in found["link", pair]["fix"]
    assert (("cable", "Mac4") in found) == carrier
    assert "==  X  ==" in cluster_status.draw_cluster(macs.said)[0]


def test_a_route_over_the_lan(macs, fault):
    way = (f"{CABLE_OF_5}/32", "via", LAN_OF_5, "dev", "en0")
    fault("exec", "mac4", "ip", "route", "add", *way, back=("exec", "mac4", "ip", "route", "del", *way))
    code, found = macs.failures()
    assert (code, set(found)) == (6, {("route", "Mac4 -> Mac5")})
    one = found["route", "Mac4 -> Mac5"]
    assert "go out by en0 over 192.168.77.5, not by bridge0, which has 10.77.0.1" in one["found"]
    assert one["fix"] == f"ssh -t mac4 'sudo ip route replace {CABLE_OF_5} dev bridge0'"


def test_an_address_that_was_taken_away(macs, fault):
    way = (f"{CABLE_OF_5}/30", "dev", "bridge0")
    fault("exec", "mac5", "ip", "addr", "del", *way, back=("exec", "mac5", "ip", "addr", "add", *way))
    code, found = macs.failures()
    assert code == 6
    assert "10.77.0.2 is on no interface there; it has" in found["address", "Mac5"]["found"]


def test_a_slow_cable_is_a_warning(macs, fault):
    fault("fault", "tb-latency", "5", back=("fault", "tb-latency", "0"))
    code, text = macs.status()
    assert code == 0, text
    assert "warning  link          Mac4 -> Mac5: slow: " in text


def test_a_cable_that_loses_packets_is_slow(macs, fault):
    fault("fault", "tb-loss", "10", back=("fault", "tb-loss", "0"))
    for _ in range(5):  # all three pings may be lost
        code, found = macs.failures()
        if code == 0:
            break
    warned = [each for each in macs.said["findings"] if each["check"] == "throughput"]
    assert {each["where"] for each in warned} <= {"Mac4 -> Mac5", "Mac5 -> Mac4"}
    assert "warning" in {each["state"] for each in warned}, warned


@pytest.mark.parametrize("kind", ["unknown", "changed"])
def test_host_keys(macs, kind):
    known = macs.state / "known_hosts"
    before = known.read_text()
    four, five = (next(line for line in before.splitlines() if line.startswith(name)) for name in ("mac4", "mac5"))
    known.write_text(f"{four}\n" + (f"{five.split()[0]} {four.split(maxsplit=1)[1]}\n" if kind == "changed" else ""))
    broken = known.read_text()
    try:
        code, found = macs.failures()
        assert known.read_text() == broken, "never added by itself"
        assert (code, set(found)) == (6, {("ssh", "Mac5")})
        fix = found["ssh", "Mac5"]["fix"].split("   #")[0]
        macs.on("mac1", "sh", "-c", fix)
        assert macs.status()[0] == 0, "the command that was given mends it"
    finally:
        known.write_text(before)


def test_a_host_that_is_off(macs, fault):
    fault("fault", "kill-host", "mac5", back=("fault", "boot-host", "mac5"))
    code, found = macs.failures()
    assert code == 6
    assert "no answer within" in found["ssh", "Mac5"]["found"]
    assert "link down" in found["link", "Mac4 -> Mac5"]["found"]


def test_a_host_that_is_frozen_answers_ping_and_is_found_out(macs, fault):
    fault("fault", "freeze-host", "mac5", back=("fault", "thaw-host", "mac5"))
    code, found = macs.failures()
    assert (code, set(found)) == (6, {("ssh", "Mac5")})
    assert "sends no banner" in found["ssh", "Mac5"]["found"]


def test_a_python_that_is_not_there(macs):
    whole = macs.cluster.read_text()
    macs.cluster.write_text(whole.replace(macs.python, "/no/such/python", 1))
    try:
        code, found = macs.failures()
    finally:
        macs.cluster.write_text(whole)
    assert (code, set(found)) == (6, {("python", "Mac4")})


@pytest.mark.parametrize("words", ["; touch {}", "$(touch {})", "`touch {}`", "' ; touch {} ; '", '" ; touch {} ; "'])
def test_nothing_in_a_cluster_file_is_executed(macs, words):
    mark = macs.state / "executed"
    hostile = words.format(mark)
    plain = {"python": macs.python, "folder": str(REPOSITORY)}
    hosts = [
        {"name": hostile, "ssh": "mac4", "ips": [CABLE_OF_4]} | dict.fromkeys(("python", "folder", "runs"), hostile),
        {"name": "Mac5", "ssh": "mac5", "ips": [CABLE_OF_5], **plain, "runs": hostile},
    ]
    with macs.instead({"name": hostile, "hosts": hosts, "env": {"A": hostile}}):
        code, found = macs.failures()
        found_by_survey = macs.before_a_run({"data": hostile, "model": hostile})
    assert (code, set(found)) == (6, {("python", hostile)})
    assert {("python", hostile), ("model", "Mac5")} <= set(found_by_survey)
    assert not mark.exists()


def test_an_ssh_name_that_is_a_command_is_refused(macs):
    with macs.instead({"hosts": [{"name": "a", "ssh": "mac4;touch x", "ips": [CABLE_OF_4]}]}):
        assert macs.status()[0] == 2


def test_before_a_run_all_is_the_same(macs):
    assert macs.before_a_run({}) == {}


def test_rows_that_differ_and_the_command_that_mends_it(macs):
    sample = REPOSITORY / "data" / "sample" / "train.jsonl"
    lines = sample.read_text(encoding="utf-8").splitlines(keepends=True)
    for host, rows in (("mac4", lines), ("mac5", lines[1:])):
        folder = macs.state / host / "home" / "my rows"
        folder.mkdir()
        (folder / "train.jsonl").write_text("".join(rows), encoding="utf-8")
    settings = {"data": "~/my rows"}
    found = macs.before_a_run(settings)
    assert set(found) == {("data", "Mac4, Mac5")}
    one = found["data", "Mac4, Mac5"]
    wanted = hashlib.sha256(sample.read_bytes()).hexdigest()[:12]
    assert f"my rows/train.jsonl differs: Mac4 {wanted}, Mac5 " in one["found"]
    macs.on("mac1", "sh", "-c", one["fix"])
    assert macs.before_a_run(settings) == {}


def test_a_base_model_that_only_one_host_has(macs):
    shutil.copytree(REPOSITORY / "data" / "models" / "tiny-gemma4-nko", macs.state / "mac4" / "home" / "base")
    settings = {"model": "~/base"}
    found = macs.before_a_run(settings)
    assert set(found) == {("model", "Mac5")}
    assert "base: no such folder" in found["model", "Mac5"]["found"]
    macs.on("mac1", "sh", "-c", found["model", "Mac5"]["fix"])
    assert macs.before_a_run(settings) == {}
    (macs.state / "mac5" / "home" / "base" / "config.json").write_text("{}")
    assert "the base model differs" in macs.before_a_run(settings)["model", "Mac4, Mac5"]["found"]


def test_a_port_that_a_rank_needs_is_taken_on_its_host(macs):
    listen = (
        f"import socket, time; s = socket.create_server(('{CABLE_OF_5}', 20077)); print(1, flush=True); time.sleep(60)"
    )
    command = f'{sys.executable} -c "{listen}" >/dev/null 2>&1 </dev/null & echo $!'
    pid = macs.on("mac1", "ssh", "mac5", command).stdout.strip()
    try:
        found = macs.before_a_run({}, ports=(20077, 20077))
    finally:
        macs.on("mac1", "ssh", "mac5", f"kill {pid}", check=False)
    assert set(found) == {("port", "Mac5")} and "20077 (Address already in use)" in found["port", "Mac5"]["found"]


def test_a_rank_that_was_left_behind(macs):
    """Started over ssh and orphaned there: its parent is the host's first process."""
    loop = "import time; time.sleep(60)"
    command = f"{sys.executable} -c '{loop}' -m thunder rank /runs/x --job train >/dev/null 2>&1 </dev/null & echo $!"
    pid = macs.on("mac1", "ssh", "mac4", command).stdout.strip()
    try:
        code, found = macs.failures()
    finally:
        macs.on("mac1", "ssh", "mac4", f"kill {pid}", check=False)
    assert (code, set(found)) == (6, {("stale rank", "Mac4")})
    assert found["stale rank", "Mac4"]["fix"] == f"ssh -t mac4 'kill {pid}'"
