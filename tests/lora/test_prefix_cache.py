"""Entries on disk: found again, torn and foreign ones made anew, a limit that holds, no two writers of one file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.lora import prefix_cache
from thunder.lora.prefix_cache import SUFFIX, PrefixCache, evict_entries, stored_size

FINGERPRINT = "a" * 64


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def content(number: int, size: int = 100) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, size).astype(np.uint8)


def filled(root, count=5, **more):
    with PrefixCache(root, FINGERPRINT, **{"budget": 10**6, "rank": 0} | more) as cache:
        assert all(cache.put(key(n), content(n)) for n in range(count))
        return root / FINGERPRINT[:32] / f"rank{more.get('rank', 0)}-0{SUFFIX}"


def held(root, count=5, **more):
    """Which entries are there, each with what was put."""
    with PrefixCache(root, FINGERPRINT, **{"budget": 10**6, "rank": 0} | more) as cache:
        found = {n: cache.get(key(n)) for n in range(count)}
        assert all(np.array_equal(content(n), entry) for n, entry in found.items() if entry is not None)
        return {n for n, entry in found.items() if entry is not None}


def test_entries_come_back_in_another_process_of_any_rank(tmp_path):
    filled(tmp_path)
    assert held(tmp_path) == set(range(5)) == held(tmp_path, rank=1)
    with PrefixCache(tmp_path, "b" * 64, 10**6) as other:
        assert other.get(key(1)) is None, "another fingerprint"


@settings(max_examples=40)
@given(st.data())
def test_whatever_happens_to_a_file_no_wrong_entry_is_read(tmp_path_factory, data):
    """Cut, overwritten, or both: what is read is what was put, and what is missing can be put again."""
    root = tmp_path_factory.mktemp("cache")
    path = filled(root)
    size = path.stat().st_size
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, size - 1))
        damage = data.draw(st.binary(min_size=1, max_size=60))
        with path.open("r+b") as stream:
            stream.seek(at)
            stream.write(damage)
    if data.draw(st.booleans()):
        os.truncate(path, data.draw(st.integers(0, size)))
    left = held(root)
    with PrefixCache(root, FINGERPRINT, 10**6) as cache:
        assert all(cache.put(key(n), content(n)) for n in range(5) if not cache.has_entry(key(n)))
        assert all(cache.has_entry(key(n)) for n in range(5))
    assert held(root) == set(range(5)) >= left


def test_damage_is_noticed(tmp_path):
    path = filled(tmp_path)
    data = bytearray(path.read_bytes())
    data[2 * stored_size(100) + 90] ^= 1
    path.write_bytes(data)
    assert held(tmp_path) == {0, 1, 3, 4}
    path.write_bytes(path.read_bytes()[:-1])
    assert held(tmp_path) == {0, 1, 3}


def test_an_entry_under_the_key_of_another_is_not_taken(tmp_path):
    path = filled(tmp_path, 2)
    data = bytearray(path.read_bytes())
    data[8:40], data[stored_size(100) + 8 : stored_size(100) + 40] = key(1), key(0)
    path.write_bytes(data)
    assert held(tmp_path) == set()


def test_the_limit_holds(tmp_path):
    with PrefixCache(tmp_path, FINGERPRINT, 3 * stored_size(100) + 50) as cache:
        assert [cache.put(key(n), content(n)) for n in range(5)] == [True, True, True, False, False]
        assert cache.size == 3 * stored_size(100) <= cache.budget
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 3 * stored_size(100) + 50
    assert held(tmp_path) == {0, 1, 2}


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from thunder.lora.prefix_cache import PrefixCache
cache = PrefixCache(Path(sys.argv[1]), "a" * 64, 10**9)
print(cache._file.name, flush=True)
for number in range(10**6):
    cache.put(number.to_bytes(32, "big"), np.random.default_rng(number).integers(0, 256, 5000).astype(np.uint8))
"""


def test_a_writer_killed_in_the_middle_leaves_what_it_wrote(tmp_path):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], env=os.environ,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert writer.stdout.readline().strip().endswith(f"rank0-0{SUFFIX}")
        path, deadline = tmp_path / FINGERPRINT[:32] / f"rank0-0{SUFFIX}", time.monotonic() + 20
        while path.stat().st_size < 200_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        with PrefixCache(tmp_path, FINGERPRINT, 10**6) as beside:
            assert beside._file.name.endswith(f"rank0-1{SUFFIX}"), "no two processes write one file"
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait(20)
        writer.stdout.close()
    with PrefixCache(tmp_path, FINGERPRINT, 10**9) as cache:
        there = [n for n in range(1000) if cache.has_entry(key(n))]
        assert len(there) > 30 and there == list(range(len(there)))
        assert np.array_equal(cache.get(key(7)), content(7, 5000))


def test_room_is_made_by_the_longest_unused_fingerprint_that_nobody_has_open(tmp_path):
    fingerprints = {name: name * 64 for name in "abcd"}
    for age, name in enumerate("dcb"):
        with PrefixCache(tmp_path, fingerprints[name], 10**6) as cache:
            cache.put(key(1), content(1, 1000))
            path = tmp_path / fingerprints[name][:32] / f"rank0-0{SUFFIX}"
        os.utime(path, (age, age))
    one = stored_size(1000)
    assert evict_entries(tmp_path, fingerprints["a"], 3 * one) == 3 * one
    with PrefixCache(tmp_path, fingerprints["d"], 10**6):
        os.utime(tmp_path / fingerprints["d"][:32] / f"rank0-0{SUFFIX}", (0, 0))
        assert evict_entries(tmp_path, fingerprints["a"], 2 * one) == 2 * one
    assert {path.parent.name[0] for path in tmp_path.glob(f"*/*{SUFFIX}")} == {"d", "b"}
    assert evict_entries(tmp_path, fingerprints["b"], 0) == 0
    assert {path.parent.name[0] for path in tmp_path.glob(f"*/*{SUFFIX}")} == {"b"}


def test_where_the_entries_lie(tmp_path):
    assert prefix_cache.prefix_cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "thunder" / "prefix"


@pytest.mark.parametrize("full", [0, 50])
def test_a_full_disk_is_no_room(tmp_path, monkeypatch, full):
    """What the disk took of an entry is cut off again."""
    import errno

    cache = PrefixCache(tmp_path, FINGERPRINT, 10**6)
    cache.put(key(0), content(0))

    class Full:
        def __init__(self, stream):
            self.stream = stream

        def write(self, data):
            self.stream.write(data[:full])
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.stream, name)

    monkeypatch.setattr(cache, "_file", Full(cache._file))
    assert not cache.put(key(1), content(1))
    assert (tmp_path / FINGERPRINT[:32] / f"rank0-0{SUFFIX}").stat().st_size == stored_size(100)
    assert not cache.put(key(2), content(2)) and cache.has_entry(key(0))
    cache.close()
