"""The thread that proposes, decides and writes the log; it answers the waiting requests in batches."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from thunder.bridge.decisions import ProposalDecider, SignedDecision
from thunder.bridge.proof.provenance import ProvenanceLog
from thunder.errors import ThunderError
from thunder.evaluation.cases import Case
from thunder.evaluation.engines import Proposal, ProposalEngine

JobOutcome = tuple[list[SignedDecision], str | None]


class QueueFull(Exception):
    """The queue has no room for the rows of a request. seconds: time after which a retry may succeed."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many rows wait; retry in {seconds} s")
        self.seconds = seconds


class NotRecorded(Exception):
    """A decision could not be written to the log, so it does not count."""


@dataclass(eq=False)
class BridgeJob:
    """The rows of a request and the future of its answer. given_up: no client waits for the answer."""

    cases: list[Case]
    request_id: str
    together: bool
    answer: asyncio.Future[JobOutcome]
    given_up: bool = False


@dataclass
class ServiceCounts:
    """Counts since the start."""

    requests: int = 0
    decisions: Counter[str] = field(default_factory=Counter)


class BridgeWorker(threading.Thread):
    """Engine, gate and log behind a queue of rows. status: loading, ok or failed (with a reason)."""

    def __init__(
        self,
        engine: Callable[[], ProposalEngine],
        decider: Callable[[ProposalEngine], ProposalDecider],
        log: ProvenanceLog,
        *,
        queue: int,
        batch_size: int,
        linger: float,
    ) -> None:
        """engine, decider: called in this thread, since MLX arrays belong to the thread that made them.

        queue: rows that may wait. batch_size: rows of one batch. linger: seconds that a first row waits for others.
        """
        super().__init__(name="bridge", daemon=True)
        self._make_engine, self._make_decider, self.log = engine, decider, log
        self._queue, self._batch_size, self._linger = queue, batch_size, linger
        self._jobs: deque[BridgeJob] = deque()
        self._change = threading.Condition()
        self._draining = False
        self._ended = threading.Event()
        self._seconds_a_row = 0.01
        self.waiting = 0
        self.status, self.reason = "loading", ""
        self.decider: ProposalDecider | None = None
        self.counts = ServiceCounts()

    def submit(self, job: BridgeJob) -> None:
        """Put a job into the queue; a job with more rows than the queue holds needs an empty queue.

        Raises QueueFull.
        """
        with self._change:
            if self.waiting and self.waiting + len(job.cases) > self._queue:
                raise QueueFull(max(1, min(60, round(self.waiting * self._seconds_a_row))))
            self._jobs.append(job)
            self.waiting += len(job.cases)
            self.counts.requests += 1
            self._change.notify()

    def drain(self) -> None:
        """Answer the waiting jobs, and end."""
        with self._change:
            self._draining = True
            self._change.notify()

    def wait_until_drained(self, seconds: float) -> bool:
        """Wait until the waiting jobs are answered after `drain`; False where this takes more than `seconds`."""
        return self._ended.wait(seconds)

    def run(self) -> None:
        """Load the engine, then answer until drained."""
        try:
            self._load_and_answer()
        finally:
            self._ended.set()
            if "mlx.core" in sys.modules:
                # MLX's thread-local destructors take the GIL; in a thread that ends while Python finalizes they abort
                # the process (ml-explore/mlx pull request 4110). So this daemon thread waits until the process ends.
                threading.Event().wait()

    def _load_and_answer(self) -> None:
        try:
            engine = self._make_engine()
            self.decider = self._make_decider(engine)
        except Exception as error:  # /health reports any error
            if not isinstance(error, ThunderError):
                traceback.print_exc()
            self.status, self.reason = "failed", str(error).splitlines()[0] if str(error) else type(error).__name__
            print(f"error: {error}", file=sys.stderr, flush=True)
            return
        self.status = "ok"
        while jobs := self._take():
            started = time.monotonic()
            try:
                self._answer(engine, self.decider, jobs)
            except Exception as error:  # these requests fail, and the service goes on
                traceback.print_exc()
                _deliver(jobs, [error] * len(jobs))
            rows = sum(len(job.cases) for job in jobs)
            self._seconds_a_row += 0.2 * ((time.monotonic() - started) / rows - self._seconds_a_row)

    def _take(self) -> list[BridgeJob]:
        """The jobs to answer next, as many as one batch holds; none once the queue is drained."""
        with self._change:
            self._change.wait_for(lambda: self._jobs or self._draining)
            self._change.wait_for(lambda: self.waiting >= self._batch_size or self._draining, self._linger)
            jobs: list[BridgeJob] = []
            rows = 0
            while self._jobs and (not jobs or rows + len(self._jobs[0].cases) <= self._batch_size):
                jobs.append(self._jobs.popleft())
                rows += len(jobs[-1].cases)
            self.waiting -= rows
            return jobs

    def _answer(self, engine: ProposalEngine, decider: ProposalDecider, jobs: Sequence[BridgeJob]) -> None:
        jobs = [job for job in jobs if not job.given_up]
        outcomes: list[JobOutcome | Exception] = []
        for job, proposals in zip(jobs, _propose_for_jobs(engine, jobs), strict=True):
            if isinstance(proposals, Exception):
                outcomes.append(proposals)
            elif job.together:
                outcomes.append(decider.decide_batch(job.cases, proposals, job.request_id))
            else:
                outcomes.append(([decider.decide(job.cases[0], proposals[0], job.request_id)], None))
        decisions = [each for outcome in outcomes if not isinstance(outcome, Exception) for each in outcome[0]]
        try:
            if decisions:
                self.log.append([decision.record for decision in decisions])
        except OSError as error:  # a decision that is not in the log does not count
            traceback.print_exc()
            outcomes = [NotRecorded(str(error)) for _ in outcomes]
        else:
            self.counts.decisions.update(decision.verdict.decision for decision in decisions)
        _deliver(jobs, outcomes)


def _propose_for_jobs(engine: ProposalEngine, jobs: Sequence[BridgeJob]) -> list[list[Proposal] | Exception]:
    """Proposals for each job, in one call; where that fails, in one call each, so that one row fails alone."""
    try:
        made = iter(list(engine.propose([case for job in jobs for case in job.cases])))
        return [[next(made) for _ in job.cases] for job in jobs]
    except Exception as error:  # an error of the engine must not end the service
        traceback.print_exc()
        if len(jobs) == 1:
            return [error]
        return [proposals for job in jobs for proposals in _propose_for_jobs(engine, [job])]


def _deliver(jobs: Sequence[BridgeJob], outcomes: Sequence[JobOutcome | Exception]) -> None:
    """Hand the outcomes to the thread of the event loop."""
    if jobs:
        jobs[0].answer.get_loop().call_soon_threadsafe(_set_outcomes, list(zip(jobs, outcomes, strict=True)))


def _set_outcomes(outcomes: Sequence[tuple[BridgeJob, Any]]) -> None:
    """Set the answers that are still awaited; runs in the thread of the event loop."""
    for job, outcome in outcomes:
        if not job.answer.done():
            if isinstance(outcome, Exception):
                job.answer.set_exception(outcome)
            else:
                job.answer.set_result(outcome)
