"""A process that is killed at its n-th act on files: no clean-up runs, as where the power fails."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator

ACTS = {"open", "os.rename", "os.remove", "os.chmod", "os.mkdir", "os.rmdir", "os.truncate", "os.symlink",
        "os.scandir", "os.listdir", "sqlite3.connect"}  # fmt: skip
KILLED, DONE, FAILED = 9, 0, 1


def at_each_act(do: Callable[[], object], fresh: Callable[[], object]) -> Iterator[int]:
    """Make things fresh and do it in a process of its own, killed before its 1st, 2nd, ... act; yields each number.

    What Python tells its audit hooks is an act, and so is each flushing to disk. Ends when it was done unharmed.
    """
    number = 0
    while True:
        number += 1
        fresh()
        code = _forked(do, number)
        if code == DONE:
            return
        assert code == KILLED, f"act {number}: it failed by itself"
        yield number


def _forked(do: Callable[[], object], number: int) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code, left = FAILED, number

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os._exit(KILLED)

    try:
        flush = os.fsync
        os.fsync = lambda handle: (count(), flush(handle))[1]  # type: ignore[assignment]
        sys.addaudithook(lambda event, _: count() if event in ACTS else None)
        do()
        code = DONE
    finally:
        os._exit(code)


def after(seconds: float, do: Callable[[], object]) -> bool:
    """Do it in a process of its own that is killed after so long; whether it was still at it."""
    child = os.fork()
    if not child:
        try:
            do()
        finally:
            os._exit(DONE)
    time.sleep(seconds)
    os.kill(child, 9)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])
