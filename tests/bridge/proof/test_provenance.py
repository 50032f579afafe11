"""The chain of decisions: every bit counts, crashes are mended by name, one writer at a time."""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from thunder.bridge.proof import keys, provenance
from thunder.bridge.proof.provenance import ProvenanceLog
from thunder.errors import ArtifactError, UsageError

KEY, OTHER = bytes(range(32)), bytes(32)
RING = keys.KeyRing(keys.key_id(KEY), {keys.key_id(KEY): KEY})


def record(number):
    return {"kind": "decision", "rid": f"r{number}", "input": "ߊߋ" * (number % 5), "edits": number, "conf_e6": None}


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "deep" / "provenance.jsonl"
    with ProvenanceLog(path, RING) as open_log:
        for number in range(0, 40, 4):
            open_log.append([record(n) for n in range(number, number + 4)])
    return path


def plain(content, *without):
    """JSON as the documents say it, of all but some fields and the digest."""
    content = {name: value for name, value in content.items() if name not in (*without, "sha256")}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_a_chain_can_be_recomputed_by_anybody(log):
    before = "0" * 64
    for number, line in enumerate(log.read_bytes().splitlines()):
        content = json.loads(line)
        assert content["record"] == record(number) and content["prev_sha256"] == before
        assert content.pop("mac") == hmac.new(KEY, b"thunder agp provenance 1\0" + plain(content), "sha256").hexdigest()
        before = hashlib.sha256(plain(json.loads(line), "sha256")).hexdigest()
        assert content["sha256"] == before
    assert provenance.verify_log(log) == provenance.ChainState(40, before, unchecked=40)
    assert provenance.verify_log(log, RING) == provenance.ChainState(40, before)


def test_it_goes_on_where_it_was(log):
    with ProvenanceLog(log, RING) as again:
        assert again.lines == 40 and not again.repaired
        again.append([record(40)])
    assert provenance.verify_log(log, RING).lines == 41


@pytest.mark.expensive
@pytest.mark.parametrize("ring", [RING, None])
def test_single_bit_flips_are_all_found_at_their_line(log, ring):
    data = log.read_bytes()
    draw = random.Random(5)
    for place in draw.sample(range(8 * len(data)), 1000):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        log.write_bytes(flipped)
        chain, line = provenance.verify_log(log, ring), data.count(b"\n", 0, place // 8) + 1
        assert str(chain) != "ok" and chain.lines + 1 == line, (place, str(chain))


@pytest.mark.parametrize("write", [
    lambda content: json.dumps(content, sort_keys=True, ensure_ascii=False),  # blanks
    lambda content: json.dumps(content, sort_keys=True, separators=(",", ":")),  # escapes
    lambda content: json.dumps(dict(reversed(content.items())), separators=(",", ":"), ensure_ascii=False),
    lambda content: plain(content)[:-1].decode() + f',"sha256":"{content["sha256"]}" }}',
    lambda content: json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\r",
])  # fmt: skip
def test_a_line_written_otherwise_is_refused_though_it_says_the_same(log, write):
    lines = log.read_bytes().splitlines(keepends=True)
    other = write(json.loads(lines[11])).encode() + b"\n"
    assert other != lines[11] and json.loads(other) == json.loads(lines[11])
    log.write_bytes(b"".join([*lines[:11], other, *lines[12:]]))
    assert str(provenance.verify_log(log, RING)) == "chain_broken@12" == str(provenance.verify_log(log))


def test_a_last_line_whose_end_is_flipped_is_torn(log):
    data = log.read_bytes()
    log.write_bytes(data[:-1] + b"\x0b")
    assert str(provenance.verify_log(log, RING)) == "torn@40"


@pytest.mark.parametrize("change", ["drop", "swap", "repeat", "first", "insert"])
def test_lines_that_are_moved_are_found(log, change):
    lines = log.read_bytes().splitlines(keepends=True)
    made, _ = provenance.encode_record(record(99), json.loads(lines[9])["sha256"], RING)
    wanted = {"drop": (lines[:10] + lines[11:], 11), "swap": ([*lines[:10], lines[11], lines[10], *lines[12:]], 11),
              "repeat": (lines[:10] + lines[9:], 11), "first": (lines[1:], 1),
              "insert": ([*lines[:10], made, *lines[10:]], 12)}  # fmt: skip
    changed, where = wanted[change]
    log.write_bytes(b"".join(changed))
    assert str(provenance.verify_log(log, RING)) == f"chain_broken@{where}"
    with pytest.raises(ArtifactError, match=f"provenance.jsonl:{where}: "):
        ProvenanceLog(log, RING)


def test_a_log_that_was_written_anew_by_another_key_is_found(tmp_path, log):
    forged = tmp_path / "forged.jsonl"
    with ProvenanceLog(forged, keys.KeyRing(RING.active, {RING.active: OTHER})) as open_log:
        open_log.append([record(number) for number in range(40)])
    assert str(provenance.verify_log(forged)) == "ok"  # the chain alone can be made by anybody
    assert str(provenance.verify_log(forged, RING)) == "chain_broken@1"
    with ProvenanceLog(
        tmp_path / "strange.jsonl", keys.KeyRing(keys.key_id(OTHER), {keys.key_id(OTHER): OTHER})
    ) as open_log:
        open_log.append([record(1)])
    assert provenance.verify_log(tmp_path / "strange.jsonl", RING).unchecked == 1


@pytest.mark.parametrize("keep", [1, 30, -1])
def test_a_line_that_a_crash_cut_off_is_moved_aside_by_name(log, keep):
    data = log.read_bytes()
    start = data.rindex(b"\n", 0, -1) + 1
    torn = data[start:][:keep]
    log.write_bytes(data[:start] + torn)
    assert str(provenance.verify_log(log, RING)) == "torn@40"
    with ProvenanceLog(log, RING) as mended:
        [beside] = log.parent.glob("provenance.jsonl.torn-*")
        assert beside.name in mended.repaired and beside.read_bytes() == torn
        mended.append([record(39)])
    assert provenance.verify_log(log, RING).lines == 41
    told = json.loads(log.read_bytes().splitlines()[39])["record"]
    assert told == {"kind": "torn", "file": beside.name, "bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}


def test_one_writer_at_a_time_and_the_next_after_it_was_killed(log):
    code = (
        "import sys, time\nfrom thunder.bridge.proof import keys, provenance\nfrom pathlib import Path\n"
        "log = provenance.ProvenanceLog(Path(sys.argv[1]), keys.DEV_RING)\nprint('open', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(log)],
        env=os.environ, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(UsageError, match="another process writes to it"):
            ProvenanceLog(log, RING)
        assert str(provenance.verify_log(log, RING)) == "ok"  # who reads needs no lock
    finally:
        process.kill()
        process.wait(20)
        process.stdout.close()
    ProvenanceLog(log, RING).close()


def test_a_disk_that_is_full_leaves_no_half_line(log, monkeypatch):
    with ProvenanceLog(log, RING) as open_log:
        open_log.append([record(40)])
        real = open_log._stream

        class Full:
            def __init__(self):
                self.left = 50

            def write(self, data):
                if not self.left:
                    raise OSError(errno.ENOSPC, "No space left on device")
                written, self.left = real.write(data[: self.left]), 0
                return written

            def fileno(self):
                return real.fileno()

            def close(self):
                real.close()

        open_log._stream = Full()
        with pytest.raises(OSError, match="No space"):
            open_log.append([record(41)])
        open_log._stream = real
        open_log.append([record(41)])
    assert provenance.verify_log(log, RING).lines == 42


def test_where_half_a_line_cannot_be_taken_away_nothing_is_added_to_it(log, monkeypatch):
    def fails(*_):
        raise OSError(errno.EIO, "Input/output error")

    with ProvenanceLog(log, RING) as open_log:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fails)
            patch.setattr(os, "ftruncate", fails)
            with pytest.raises(OSError, match="Input/output"):
                open_log.append([record(40)])
        with pytest.raises(OSError, match="an earlier line is incomplete"):
            open_log.append([record(41)])


@pytest.mark.parametrize("done, said", [
    (lambda log: log.unlink(), "No such file"), (lambda log: log.rename(log.with_name("rotated")), "No such file"),
    (lambda log: (log.rename(log.with_name("rotated")), log.write_bytes(b"")), "is not the file that was opened"),
    (lambda log: log.open("ab").write(b"{}\n"), "another program wrote"),
    (lambda log: os.truncate(log, 100), "100 bytes"),
])  # fmt: skip
def test_nothing_is_added_to_a_log_that_others_took_away_or_changed(log, done, said):
    """A log that was rotated while the service runs would take its decisions to where nobody looks."""
    with ProvenanceLog(log, RING) as open_log:
        open_log.append([record(40)])
        done(log)
        with pytest.raises(OSError, match=said):
            open_log.append([record(41)])
        assert open_log.lines == 41


def test_a_log_that_was_taken_away_and_put_back_goes_on(log):
    with ProvenanceLog(log, RING) as open_log:
        log.rename(log.with_name("rotated"))
        with pytest.raises(OSError):
            open_log.append([record(40)])
        log.with_name("rotated").rename(log)
        open_log.append([record(40)])
    assert provenance.verify_log(log, RING).lines == 41


def test_where_no_log_can_be(tmp_path):
    for path in (tmp_path, tmp_path / "x", "/dev/full"):
        if path == tmp_path / "x":
            (tmp_path / "file").write_text("")
            path = tmp_path / "file" / "log"
        with pytest.raises(UsageError) as caught:
            ProvenanceLog(Path(path), RING)
        assert "--log FILE" in caught.value.fix


def test_a_line_without_end_in_the_middle_is_no_torn_one(log, monkeypatch):
    monkeypatch.setattr(provenance, "LONGEST_LINE", 4096)
    data = log.read_bytes()
    start = data.index(b"\n", len(data) // 2) + 1
    log.write_bytes(data[:start] + b"\0" * 5000 + data[start:])
    assert str(provenance.verify_log(log, RING)) == f"chain_broken@{1 + len(data[:start].splitlines())}"
    with pytest.raises(ArtifactError, match="longer than any record"):
        ProvenanceLog(log, RING)


def test_what_is_no_log(tmp_path):
    with pytest.raises(ArtifactError, match="No such file"):
        provenance.verify_log(tmp_path / "none")
    path = tmp_path / "x"
    for text in ("{}\n", "[]\n", "\n", "null\n", '{"a":NaN}\n', "[" * 9000 + "\n"):
        path.write_text(text)
        assert str(provenance.verify_log(path)) == "chain_broken@1"
    path.write_text("")
    assert provenance.verify_log(path) == provenance.ChainState()


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_nothing_that_was_said_to_be_there(tmp_path):
    """A writer says each record's number after it is on disk; whatever it said is in the log."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom thunder.bridge.proof import keys, provenance\n"
        "with provenance.ProvenanceLog(Path(sys.argv[1]), keys.DEV_RING) as log:\n"
        "    while True:\n"
        "        log.append([{'n': log.lines, 'x': 'y' * 20000}])\n        print(log.lines, flush=True)\n"
    )
    path, draw = tmp_path / "p.jsonl", random.Random(2)
    for _ in range(12):
        words = [sys.executable, "-P", "-c", code, str(path)]
        process = subprocess.Popen(words, env=os.environ, stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(draw.random() / 5)
        process.kill()
        said = [line for line in process.stdout.read().split(b"\n")[:-1] if line]
        process.wait(20)
        process.stdout.close()
        chain = provenance.verify_log(path, keys.DEV_RING)
        assert not chain.fault and chain.lines >= (int(said[-1]) if said else 0)
