"""One rank of a run as a process of its own: join the ring, do the job, report how it ended."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from thunder.cluster.ranks import orphan_guard
from thunder.errors import ThunderError
from thunder.runs.records.run_record import RunRecord

if TYPE_CHECKING:
    from thunder.training.loop_settings import RuntimeOverrides

JOBS = {
    "train": ("thunder.launcher.rank_jobs.adapter_job", "train_adapter"),
    "pretrain": ("thunder.launcher.rank_jobs.pretrain_job", "pretrain_base"),
    "asr": ("thunder.launcher.rank_jobs.recognizer_job", "train_recognizer"),
    "smoke": ("thunder.launcher.rank_jobs.ring_check_job", "check_ring"),
}
JOIN_DEADLINE = 60  # seconds; MLX's own connect retries end after 31


class StopFlag:
    """Set by SIGTERM or SIGINT; the loop looks at it between steps and all ranks stop after the same one."""

    def __init__(self) -> None:
        self._event = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._event.set())

    def __call__(self) -> bool:
        return self._event.is_set()


def run_rank(folder: Path, job: str, overrides: RuntimeOverrides) -> NoReturn:
    """Do a job of JOBS as the rank that the environment describes, then end this process with the job's exit code."""
    faulthandler.enable()
    # whoever watches the ranks asks for their stacks so; it works while MLX blocks
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    orphan_guard.watch_launcher()
    rank = int(os.environ.get("THUNDER_RANK", "0"))
    record = RunRecord.of_rank(folder, main=rank == 0)
    record.start_heartbeat()
    code = 0
    try:
        _join_and_work(folder, job, overrides, record, rank)
    except ThunderError as error:
        code = _report_error(record, error.message, error.fix, error.exit_code, f"error: {error}")
    except BaseException as error:
        code = _report_error(record, f"{type(error).__name__}: {error}", "", 1, traceback.format_exc())
    # A ring whose peer is gone can block the interpreter's way out for ever; what had to be written is written.
    os._exit(code)


def _join_and_work(folder: Path, job: str, overrides: RuntimeOverrides, record: RunRecord, rank: int) -> None:
    from thunder.launcher.rank_jobs.rank_setup import RankSetup
    from thunder.parallel import world
    from thunder.training import faults
    from thunder.training.training_events import CallbackList

    injectors = faults.from_environment(os.environ, record, rank)
    callbacks = CallbackList(injectors)
    record.phase("joining")
    callbacks.reach_point("joining")
    # `init` keeps the interpreter's lock, and rank 0 waits in it without limit: only this thread in C can end it
    faulthandler.dump_traceback_later(JOIN_DEADLINE, exit=True)
    ring = world.join_world()
    faulthandler.cancel_dump_traceback_later()
    for injector in injectors:
        injector.world = ring
    module, function = JOBS[job]
    # from here on a signal means: finish the step, save, stop; before, there is nothing to save
    setup = RankSetup(folder, record, ring, StopFlag(), overrides, callbacks)
    getattr(importlib.import_module(module), function)(setup)


def _report_error(record: RunRecord, message: str, fix: str, code: int, text: str) -> int:
    """Tell the launcher first: where the disk is full, the log cannot be written. Returns the exit code."""
    record.event("error", message=message, fix=fix, exit_code=code)
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
    return code
