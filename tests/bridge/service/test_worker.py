"""The worker behind the service: its queue, deadlines, shared passes, failures, and its end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from bridge_service import ready, row, started_services

from thunder.evaluation.engines import IdentityEngine, Proposal


class Slow(IdentityEngine):
    """Proposes the input once it may; a row named "bad" makes it fail."""

    def __init__(self):
        self.may, self.passes = threading.Event(), []

    def propose(self, cases, finished=None):
        assert self.may.wait(30)
        self.passes.append(len(cases))
        if any(case.row_id == "bad" for case in cases):
            raise RuntimeError("the secret of the engine")
        return iter([Proposal(case.input) for case in cases])


serve = pytest.fixture(started_services)


def test_a_full_queue_says_when_to_ask_again_and_loses_nothing(serve):
    engine = Slow()
    client = ready(serve(lambda: engine, queue=4, batch_size=1))
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(client.post, "/propose", json={"row": row(f"r{number}")}) for number in range(12)]
        until = time.monotonic() + 30
        while sum(each.done() for each in asked) < 7:
            assert time.monotonic() < until
            time.sleep(0.01)
        engine.may.set()
        answers = [each.result(30) for each in asked]
    codes = sorted(answer.status_code for answer in answers)
    assert codes.count(200) in (4, 5) and codes.count(429) == 12 - codes.count(200)
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 429)
    assert client.log.lines == codes.count(200)


def test_a_deadline_gives_up_and_what_nobody_waits_for_is_not_asked(serve):
    engine = Slow()
    client = ready(serve(lambda: engine, batch_size=1))
    with ThreadPoolExecutor(3) as pool:
        options = {"deadline_ms": 100}
        asked = [pool.submit(client.post, "/propose", json={"row": row(name), "options": options}) for name in "abc"]
        answers = [each.result(30) for each in asked]
        assert [answer.status_code for answer in answers] == [504] * 3
        engine.may.set()
        assert client.post("/propose", json={"row": row("d")}).status_code == 200
    assert sum(engine.passes) <= 2  # one was in the engine already


def test_concurrent_requests_share_a_pass(serve):
    engine = Slow()
    client = ready(serve(lambda: engine, batch_size=8, linger_ms=200))
    engine.may.set()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(client.post, "/propose", json={"row": row(f"r{number}")}) for number in range(8)]
        names = [each.result(30).json()["feat_id"] for each in asked]
    assert names == [f"r{number}" for number in range(8)] and max(engine.passes) >= 4


def test_a_row_that_breaks_the_engine_spoils_no_other(serve):
    engine = Slow()
    client = ready(serve(lambda: engine, batch_size=8, linger_ms=100))
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(client.post, "/propose", json={"row": row(name)}) for name in ("a", "bad", "c")]
        time.sleep(0.2)
        engine.may.set()
        answers = [each.result(30) for each in asked]
    assert [answer.status_code for answer in answers] == [200, 500, 200]
    assert answers[1].json() == {"error": "internal error", "field": None}
    assert client.get("/health").json()["status"] == "ok"


def test_a_decision_that_cannot_be_recorded_is_none(serve, monkeypatch):
    client = ready(serve())

    def full(records):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(client.log, "append", full)
        answer = client.post("/propose", json={"row": row()})
        assert answer.status_code == 503 and "recorded" in answer.json()["error"] and answer.headers["retry-after"]
    assert client.get("/health").json()["kept"] == 0
    assert client.post("/propose", json={"row": row()}).status_code == 200


USE_MLX_IN_THE_WORKER = """
import mlx.core as mx
from thunder.bridge.service.worker import BridgeWorker

compiled = [mx.compile(lambda x, n=n: x * n + mx.ones(3)) for n in range(300)]

def use_mlx():
    mx.eval([each(mx.zeros(3)) for each in compiled])

worker = BridgeWorker(use_mlx, lambda engine: None, None, queue=1, batch_size=1, linger=0)
worker.start()
worker.drain()
assert worker.wait_until_drained(30)
"""


def test_what_waits_at_the_end_is_still_answered(serve):
    engine = Slow()
    client = ready(serve(lambda: engine, batch_size=1))
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(client.post, "/propose", json={"row": row(f"r{number}")}) for number in range(6)]
        until = time.monotonic() + 30
        while client.worker.waiting < 5:
            assert time.monotonic() < until
            time.sleep(0.01)
        client.worker.drain()
        engine.may.set()
        assert [each.result(30).status_code for each in asked] == [200] * 6
    assert client.worker.wait_until_drained(20)


def test_a_thread_that_used_mlx_does_not_abort_the_process_at_its_end():
    """Where the thread ends while Python finalizes, MLX's destructors abort the process (SIGABRT)."""
    for _ in range(6):
        ended = subprocess.run(
            [sys.executable, "-c", USE_MLX_IN_THE_WORKER], capture_output=True, text=True, timeout=60
        )
        assert (ended.returncode, ended.stderr) == (0, "")
