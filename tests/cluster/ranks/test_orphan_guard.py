import os
import subprocess
import sys
import threading

import pytest

from thunder.cluster.ranks import orphan_guard


def test_the_end_of_the_pipe_is_noticed_and_bytes_are_not():
    inner, outer = os.pipe()
    lost = threading.Event()
    thread = orphan_guard.watch_pipe(inner, lost.set)
    os.write(outer, b"still here")
    assert not lost.wait(0.2)
    os.close(outer)
    assert lost.wait(5)
    thread.join()
    os.close(inner)


def test_without_a_launcher_there_is_nothing_to_watch():
    assert orphan_guard.watch_launcher({}) is None


def test_a_descriptor_that_is_not_open_is_refused_at_once():
    with pytest.raises(OSError):
        orphan_guard.watch_pipe(987654)


@pytest.mark.parametrize("own_session, returncode", [(True, -9), (False, 1)])
def test_the_process_ends_with_its_group_only_where_that_is_its_own(own_session, returncode):
    script = """
import sys, time
from thunder.cluster.ranks import orphan_guard
orphan_guard.watch_pipe(int(sys.argv[1]))
time.sleep(60)
"""
    inner, outer = os.pipe()
    command = [sys.executable, "-c", script, str(inner)]
    process = subprocess.Popen(command, pass_fds=[inner], start_new_session=own_session)
    os.close(inner)
    os.close(outer)
    assert process.wait(15) == returncode
