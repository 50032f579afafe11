"""End a rank when its launcher is gone: a rank left behind holds memory and can join a later run's ring.

The launcher keeps one end of a pipe, which the system closes however the launcher ends. At the other end wait a thread
in the rank, from the rank's start on, and a guard, a shell beside it. The thread runs while MLX blocks in a collective
operation, but not while MLX joins the ring (`init` holds the interpreter's lock, and its accept waits without limit)
nor in a stopped process. The guard does not depend on the rank.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping

LIFELINE_VARIABLE = "THUNDER_LIFELINE_FD"
EXIT_CODE = 1


def end_process_group() -> None:
    """Kill this rank and its children at once. This is safe at any time: checkpoints are written atomically."""
    # a rank started by hand shares its group with the shell's pipeline: do not kill that
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(EXIT_CODE)


def watch_pipe(fd: int, on_lost: Callable[[], None] = end_process_group) -> threading.Thread:
    """Call `on_lost` in a daemon thread when the other end of a pipe is closed.

    Raises OSError if `fd` is not open.
    """
    os.fstat(fd)

    def wait() -> None:
        while os.read(fd, 4096):
            pass
        on_lost()

    thread = threading.Thread(target=wait, name="lifeline", daemon=True)
    thread.start()
    return thread


def watch_launcher(environ: Mapping[str, str] = os.environ) -> threading.Thread | None:
    """Watch the launcher that started this rank; None if no launcher did.

    Raises OSError if THUNDER_LIFELINE_FD names a descriptor that is not open.
    """
    number = environ.get(LIFELINE_VARIABLE)
    return watch_pipe(int(number)) if number else None


def start_guard(group: int, fd: int, job_id: str) -> subprocess.Popen[bytes]:
    """Start a shell that kills a process group when the other end of a pipe is closed; kill the shell when the group is
    gone.

    job_id: set in its environment, as in the ranks', so that all processes of a run can be found. Raises OSError if
    /bin/sh cannot be started.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read -r nothing; kill -KILL "-$1"', "thunder-guard", str(group)],
        env={"THUNDER_JOB_ID": job_id},
        stdin=fd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # otherwise the terminal's Ctrl-C would end it
        start_new_session=True,
    )
