"""Run a planned job as one rank in this process: no supervisor and no other process."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thunder.cluster.inventory.rank_plan import FAST_SYNCH_VARIABLE, RELAXED_WATCHDOG_VARIABLE
from thunder.errors import ThunderError, UsageError
from thunder.launcher.job_console import JobConsole
from thunder.launcher.job_runner import PlannedJob, opened_run
from thunder.launcher.rank_jobs.rank_process import JOBS
from thunder.launcher.run_follower import RunFollower
from thunder.runs.records import registry, run_record
from thunder.runs.records.run_record import RunRecord
from thunder.training.loop_settings import RuntimeOverrides
from thunder.training.training_events import NO_CALLBACKS, CallbackList

if TYPE_CHECKING:
    from thunder.launcher.rank_jobs.rank_setup import RankSetup


class FollowedRecord(RunRecord):
    """The record of a rank whose follower is in the same process."""

    def __init__(self, folder: Path, on_event: Callable[[int, dict[str, Any]], None]) -> None:
        super().__init__(folder)
        self._on_event = on_event

    def event(self, kind: str, **values: Any) -> None:
        """Hand the event to the follower."""
        self.progress(values.get("step"))
        self._on_event(0, {"event": kind, "time": time.time(), **values})


def run_in_process(planned: PlannedJob, console: JobConsole, callbacks: CallbackList = NO_CALLBACKS) -> dict[str, Any]:
    """Run a job of one rank to its end and return the results.

    Ctrl-C asks it to stop, if this is the main thread: it finishes the step, saves a checkpoint and raises Interrupted.

    Raises UsageError where the job has more than one rank or runs on another host, else the ThunderError that the run
    failed with.
    """
    placement, folder, settings = planned.placement, planned.folder, planned.job.settings
    if placement.ranks != 1 or placement.is_remote:
        raise UsageError(
            f"{placement.ranks} ranks on {placement.cluster.name} cannot run in this process",
            fix="ranks=1, or in_process=False",
        )
    # as for every rank; MLX reads them when it is imported
    os.environ[FAST_SYNCH_VARIABLE] = "0"
    os.environ.setdefault(RELAXED_WATCHDOG_VARIABLE, "1")
    module, function = JOBS[planned.job.kind]
    job: Callable[[RankSetup], None] = getattr(importlib.import_module(module), function)
    from thunder.launcher.rank_jobs.rank_setup import RankSetup
    from thunder.parallel.world import World

    with opened_run(planned, console), _stop_on_interrupt() as stop_requested:
        total = settings.total_updates
        with console.display(total) as display, RunFollower(total, folder, display) as follower:
            record = FollowedRecord(folder, follower.on_event)
            overrides = RuntimeOverrides(planned_ranks=1, force=settings.force)
            try:
                job(RankSetup(folder, record, World(), stop_requested, overrides, callbacks))
            except ThunderError as error:
                with contextlib.suppress(OSError):  # a disk that is full shall not hide what happened
                    registry.write_end(folder, error)
                raise
        return run_record.read_results(folder)


@contextlib.contextmanager
def _stop_on_interrupt() -> Generator[Callable[[], bool]]:
    """While this is open the first SIGINT sets a flag, which the given function reads; the second interrupts."""
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def on_signal(number: int, frame: Any) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()

    signal.signal(signal.SIGINT, on_signal)
    try:
        yield requested.is_set
    finally:
        signal.signal(signal.SIGINT, before)
