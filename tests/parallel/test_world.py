"""Joining the ring: another job on the same ports is an error on every rank that ends, never a wrong sum."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

import pytest
from conftest import free_port_pair

from thunder.parallel import world

pytestmark = pytest.mark.expensive

# A rank's whole way: join within a deadline as `thunder rank` has it, agree, then sum for a while.
RANK = """
import faulthandler, json, os, sys, time
import mlx.core as mx
from thunder.errors import ThunderError
from thunder.parallel import collectives, consistency, world
faulthandler.dump_traceback_later(float(sys.argv[2]), exit=True)
value = float(sys.argv[1])
try:
    ring = world.join_world()
    consistency.check_consistency(ring, {"data": "same"})
    for step in range(1, 40):
        out = collectives.sum_gradients(ring, {"w": mx.array([value])}, step=step, loss_sum=mx.array(0.0), tokens=1)
        assert out.tree["w"].item() == 2 * value, f"WRONG SUM {out.tree['w'].item()}"
        time.sleep(0.005)
    print(json.dumps("finished"), flush=True)
    os._exit(0)
except ThunderError as error:
    print(json.dumps(error.message), flush=True)
    os._exit(error.exit_code)
except RuntimeError as error:
    print(json.dumps(f"RuntimeError: {error}"), flush=True)
    os._exit(1)
"""


def start(code, hostfile, rank, job, value, deadline):
    environ = os.environ | {
        "THUNDER_JOB_ID": job,
        "THUNDER_WORLD_SIZE": "2",
        "MLX_RANK": str(rank),
        "MLX_HOSTFILE": str(hostfile),
        "OPENBLAS_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, str(code), str(value), str(deadline)],
        env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.fixture
def ring_of(tmp_path):
    """Start ranks given as (rank, job, value) on one pair of ports; returns each one's (code, output)."""
    hostfile, code, started = tmp_path / "hostfile.json", tmp_path / "rank.py", []
    code.write_text(RANK, encoding="utf-8")

    def run(*ranks, deadline=15):
        hostfile.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_port_pair(2)]))
        processes = [start(code, hostfile, *rank, deadline) for rank in ranks]
        started.extend(processes)
        return [(process.communicate(timeout=deadline + 20)[0], process.returncode)[::-1] for process in processes]

    yield run
    for process in started:
        process.kill()
        with contextlib.suppress(ValueError):
            process.communicate(timeout=5)


def test_two_ranks_of_one_job_finish(ring_of):
    """The other tests' script does come to its end where nothing is wrong."""
    results = ring_of((0, "a1", 1), (1, "a1", 1))
    assert [code for code, _ in results] == [0, 0], results


def test_a_rank_of_another_job_is_named_on_both(ring_of):
    results = ring_of((0, "a1", 1), (1, "b2", 100))
    assert [code for code, _ in results] == [1, 1], results
    for _, text in results:
        assert "another job answered on this run's ports" in text
        assert "job a1 rank 0 of 2" in text and "job b2 rank 1 of 2" in text


@pytest.mark.parametrize("attempt", range(2))
def test_two_jobs_on_one_pair_of_ports_never_finish_with_sums_of_both(ring_of, attempt):
    ranks = [(0, "a1", 1), (0, "b2", 100), (1, "a1", 1), (1, "b2", 100)][:: 1 if attempt == 0 else -1]
    results = ring_of(*ranks)
    assert not any("WRONG SUM" in text for _, text in results), results
    finished = [rank[1] for rank, (code, _) in zip(ranks, results, strict=True) if code == 0]
    # a job whose two ranks did find each other may end well, but then both of its ranks do
    assert all(finished.count(job) == 2 for job in finished), results
    for code, text in results:
        assert code == 0 or any(
            said in text for said in ("another job", "could not join", "connection", "Timeout", "out of step")
        ), text


def test_a_greeting_fits_into_31_bits_and_tells_everything():
    for job in (0, 2**24 - 1, 2**61 + 12345):
        words = world.greeting(job, 1, 64)
        assert all(0 <= word < 2**31 for word in words)
        assert words[2] * 2**31 + words[1] == job
    assert len({tuple(world.greeting(*values)) for values in [(1, 0, 2), (2, 0, 2), (1, 1, 2), (1, 0, 3)]}) == 4
