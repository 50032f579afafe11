"""A rank as a process of this machine: its log, its events, and what remains of it at its end."""

import pytest
from process_ranks import codes, started_ranks

pytestmark = pytest.mark.expensive
ranks = pytest.fixture(started_ranks)


def test_stdin_is_empty_and_the_log_holds_both_streams(ranks):
    (end,) = ranks.run("print('read', repr(sys.stdin.read())); print('oops', file=sys.stderr)", ranks=1)
    assert end.tail == ("read ''", "oops")
    assert not (ranks.folder / "run/hostfile.json").exists(), "a world of one has no ring"


def test_a_second_start_appends_to_the_logs_and_quotes_its_own_lines_only(ranks):
    ranks.run("print('one')", ranks=1)
    (end,) = ranks.run("print('two')", ranks=1)
    assert end.tail == ("two",)
    assert end.log.read_text() == "one\ntwo\n"


def test_events_come_whole_however_they_were_written(ranks):
    script = """
events.flush()
out = events.fileno()
for part in (b'{"event": "a", "text": "\\xdf', b'\\x8a"}', b'\\n{"event"', b': "b"}\\n\\n{"event": "c"}'):
    os.write(out, part)
    time.sleep(0.05)
"""
    ends = ranks.run(script, ranks=1)
    assert ranks.events == [(0, {"event": "a", "text": "ߊ"}), (0, {"event": "b"}), (0, {"event": "c"})]
    assert ends[0].malformed_events == 0


def test_malformed_events_are_counted_and_logged(ranks, caplog):
    script = """
out = events.fileno()
os.write(out, b'hello\\n[1]\\n{"event": "a"}\\n\\xff\\n' + b'x' * 3_000_000 + b'\\n{"event": "b"}\\n{"torn": ')
"""
    ends = ranks.run(script, ranks=1)
    assert codes(ends) == [0]
    assert ranks.events == [(0, {"event": "a"}), (0, {"event": "b"})]
    assert ends[0].malformed_events >= 5
    assert "rank 0 sent an event that is not a JSON object: b'hello'" in caplog.text


def test_events_are_not_lost_when_a_rank_dies_right_after_them(ranks):
    ranks.run("[tell(n=n, pad='x' * 100) for n in range(5000)]; os._exit(0)")
    assert [event["n"] for rank, event in ranks.events if rank == 0] == list(range(5000))


def test_a_rank_that_floods_its_log_neither_stalls_nor_hides_its_error(ranks):
    script = """
sys.stdout.flush()
print("Traceback (most recent call last):\\n  File 'x'\\nValueError: the cause")
for _ in range(200):
    os.write(1, b"noise " * 10_000 + b"\\n")
print("Traceback (most recent call last):\\n  File 'x'\\nValueError: the last one", flush=True)
for n in range(100):
    print("after", n)
sys.exit(1)
"""
    lines = []
    (end,) = ranks.run(script, ranks=1, on_line=lambda rank, line: lines.append(line))
    assert end.log.stat().st_size > 12_000_000
    assert end.tail[-1] == "ValueError: the last one"
    assert len(end.tail) <= 15
    assert lines[-1] == "after 99"
    assert any("bytes left out" in line for line in lines)


def test_lines_of_the_logs_are_passed_on(ranks):
    lines = []
    script = "print('a\\u07ca', flush=True); time.sleep(0.3); print(rank, end='')"
    ranks.run(script, on_line=lambda rank, line: lines.append((rank, line)))
    assert sorted(lines) == [(0, "0"), (0, "aߊ"), (1, "1"), (1, "aߊ")]


def test_what_a_rank_left_running_ends_with_it(ranks):
    assert codes(ranks.run("subprocess.Popen(['sleep', '60'])")) == [0, 0]
    ranks.wait_until_gone()
