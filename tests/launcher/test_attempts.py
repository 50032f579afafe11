"""Who takes part in an attempt, with which ports and words; and what is left when it fails."""

import os
from types import SimpleNamespace

import pytest

from thunder.cluster.health.finding import Finding
from thunder.cluster.inventory.cluster_file import Cluster, Host
from thunder.cluster.ranks.exit_causes import ExitCause
from thunder.cluster.ranks.oom_fallbacks import WorkloadShape, remembered_fallback
from thunder.cluster.ranks.supervisor import Attempt
from thunder.errors import HangError, RunFailed
from thunder.launcher import attempts
from thunder.launcher.attempts import Attempts, absent_hosts, draw_ports, rank_plans, without_hosts
from thunder.training.loop_settings import LoopSettings

HOSTS = [Host(name=f"Mac{n}", ssh=f"mac{n}", ips=[f"10.0.0.{n}"]) for n in (4, 5, 6)]
DESK = Cluster(name="desk", hosts=HOSTS)


def bad(check, where, state="failure"):
    return Finding(check, state, where, "why not")


@pytest.mark.parametrize(
    "found, gone",
    [
        ([], []),
        ([bad("ssh", "Mac4")], ["Mac4"]),
        ([bad("python", "Mac5"), bad("ssh", "Mac6")], ["Mac5", "Mac6"]),
        ([bad("ssh", "Mac4", "warning"), bad("link", "Mac4 -> Mac5", "ok")], []),
        ([bad("power", "Mac4"), bad("memory", "Mac5"), bad("model", "Mac6")], []),
        ([bad("link", "Mac4 -> Mac5")], ["Mac5"]),
        ([bad("link", "Mac5 -> Mac4")], ["Mac5"]),
        ([bad("link", "Mac5 -> Mac4"), bad("link", "Mac4 -> Mac5")], ["Mac5"]),
        ([bad("ssh", "Mac4"), bad("link", "Mac4 -> Mac5"), bad("link", "Mac6 -> Mac4")], ["Mac4"]),
        ([bad("cable", "Mac4 -> Mac5"), bad("route", "Mac5 -> Mac6")], ["Mac5"]),
        ([bad("ssh", "Mac4"), bad("ssh", "Mac4")], ["Mac4"]),
    ],
)
def test_who_cannot_take_part(found, gone):
    assert list(absent_hosts(HOSTS, found, False)) == gone
    assert all("why not" in text for text in absent_hosts(HOSTS, found, False).values())


def test_links_that_the_user_skips_keep_nobody_away():
    found = [bad("link", "Mac4 -> Mac5"), bad("ssh", "Mac6")]
    assert absent_hosts(HOSTS, found, True) == {"Mac6": "why not"}


def test_the_cluster_without_some():
    assert [host.name for host in without_hosts(DESK, ["Mac5", "nobody"]).hosts] == ["Mac4", "Mac6"]
    assert len(DESK.hosts) == 3


def test_a_port_for_each_rank_and_none_twice():
    here = [Host(name=f"here{n}", ips=["127.0.0.1"]) for n in range(3)]
    drawn = draw_ports(Cluster(name="mixed", hosts=[HOSTS[0], here[0], HOSTS[1], *here[1:]]))
    assert len(set(drawn)) == 5 and all(20000 <= port < 32768 for port in drawn)


def test_a_rank_is_told_its_folder_on_its_own_host(tmp_path):
    (plan, *_) = rank_plans("train", DESK, tmp_path / "r", "ab", [1, 2, 3], ("--force",))
    assert list(plan.argv[1:]) == ["-P", "-m", "thunder", "rank", "runs/r", "--job", "train", "--force"]


class Follower:
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)

    def on_event(self, rank, event):
        pass


def an_attempt(tmp_path, cluster=DESK, shape=None, **options):
    job = SimpleNamespace(kind="train", settings=LoopSettings(batch_size=4, **options))
    (tmp_path / "r" / "logs").mkdir(parents=True)
    return Attempts(job, cluster, tmp_path / "r", Follower(), shape)


def test_the_global_batch_is_kept_on_every_rung_and_without_a_host(tmp_path):
    made = an_attempt(tmp_path, force=True)
    made.fallbacks = attempts.oom_fallbacks.fallback_sequence(4, True)
    words = made.arguments(Attempt(2, 1, ("Mac5",)))
    expected = "--planned-ranks 3 --micro-batch-size 2 --grad-checkpoint --force"
    assert words == tuple(expected.split())


def test_a_job_on_this_machine_misses_nobody(tmp_path):
    cluster = Cluster(name="local", hosts=[Host(name="here", ips=["127.0.0.1"])])
    assert an_attempt(tmp_path, cluster).missing() == {}


SHAPE = WorkloadShape(("M4",), "a", 4, 2, 256, False)
GPU = ExitCause("gpu timeout", 0, "Mac4", RunFailed("x" * 2000))


def test_an_incident_of_the_gpu_is_remembered_for_the_next_run(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_STATE", str(tmp_path / "state"))
    an_attempt(tmp_path, shape=SHAPE).remember(GPU, 2)
    assert remembered_fallback(tmp_path / "state", SHAPE) == (2, "r")


def test_a_memory_that_cannot_be_written_stops_no_run(tmp_path, monkeypatch):
    (tmp_path / "state").write_text("a file")
    monkeypatch.setenv("THUNDER_STATE", str(tmp_path / "state"))
    made = an_attempt(tmp_path, shape=SHAPE)
    made.remember(GPU, 2)
    assert "the next run will not know of this" in made.follower.lines[0]


@pytest.mark.parametrize("full", [False, True])
def test_a_run_that_hangs_leaves_a_bundle_and_a_full_disk_hides_no_error(tmp_path, monkeypatch, full):
    made = an_attempt(tmp_path)
    monkeypatch.setattr(attempts.Supervisor, "run", lambda self: (_ for _ in ()).throw(HangError("it hangs", "look")))
    if full:
        (made.folder / "end.json").mkdir()
        error = OSError(28, os.strerror(28))
        monkeypatch.setattr(attempts.incident, "pack_incident", lambda folder: (_ for _ in ()).throw(error))
    with pytest.raises(HangError, match="it hangs") as caught:
        made.run()
    assert caught.value.fix.startswith("look\n  logs")
    assert ("No space left" in caught.value.fix) == full
    assert len(list(made.folder.glob("incident-*.tar.gz"))) == (not full)
    assert full or '"failed"' in (made.folder / "end.json").read_text()
