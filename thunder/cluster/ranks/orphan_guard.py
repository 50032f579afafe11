"""What ends a rank when its launcher is gone: a rank left over holds memory, and can join a later ring.

The launcher keeps one end of a pipe, which the system closes however the launcher ends. At the other end wait a thread
in the rank, from the rank's first moment on, and a guard, a shell beside it. The thread runs while MLX blocks in
a collective, but not while it joins the ring (MLX's `init` keeps the interpreter's lock, and its accept waits
without limit) nor in a stopped process; the guard does not depend on the rank at all.
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
    """End this rank and what it started, at once: checkpoints are whole or absent, so nothing needs a farewell."""
    # a rank that was started by hand shares its group with the shell's pipeline, which is not ours to kill
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(EXIT_CODE)


def watch_pipe(fd: int, on_lost: Callable[[], None] = end_process_group) -> threading.Thread:
    """Call `on_lost`, in a daemon thread, when the other end of a pipe is closed.

    Raises OSError where `fd` is not open.
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
    """Watch the launcher that started this rank; None where no launcher did.

    Raises OSError where THUNDER_LIFELINE_FD names a descriptor that is not open.
    """
    number = environ.get(LIFELINE_VARIABLE)
    return watch_pipe(int(number)) if number else None


def start_guard(group: int, fd: int, job_id: str) -> subprocess.Popen[bytes]:
    """Start a shell that kills a process group when the other end of a pipe is closed; kill it once the group is gone.

    job_id: carried in its environment, as the ranks carry it, so that all processes of a run can be found.
    Raises OSError where /bin/sh cannot be started.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read -r nothing; kill -KILL "-$1"', "thunder-guard", str(group)],
        env={"THUNDER_JOB_ID": job_id},
        stdin=fd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # or the terminal's Ctrl-C would end it
        start_new_session=True,
    )
