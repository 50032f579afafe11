"""Messages between launcher and agent: whole however the bytes arrive, and bounded whatever arrives."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.cluster.ranks.protocol import (
    MAX_MESSAGE_BYTES,
    MESSAGE_PREFIX,
    MessageReader,
    encode_message,
    file_digests,
    text_lines,
    whole_number,
)

MESSAGES = [{"say": "ready", "n": 1}, {"text": "ߞߊ\n\u2028", "name": "\udcff"}, {"deep": [[{}]]}]


def test_a_message_is_one_line_of_json_behind_its_prefix():
    for message in MESSAGES:
        line = encode_message(message, MESSAGE_PREFIX)
        assert line.startswith(MESSAGE_PREFIX) and line.count(b"\n") == 1 and line.endswith(b"\n")
        assert json.loads(line.removeprefix(MESSAGE_PREFIX)) == message


@settings(max_examples=60)
@given(st.lists(st.integers(1, 40), max_size=60))
def test_messages_come_whole_however_their_bytes_are_cut(lengths):
    data = b"Welcome\n" + b"".join(encode_message(each, MESSAGE_PREFIX) for each in MESSAGES)
    reader, received = MessageReader(MESSAGE_PREFIX), []
    for length in [*lengths, len(data)]:
        received += reader.feed(data[:length])
        data = data[length:]
    assert received == MESSAGES and reader.malformed == 0
    assert reader.last_unmarked_line == b"Welcome"


def test_lines_that_are_no_message_are_counted():
    reader = MessageReader()
    lines = [b"{", b"[1]", b"3", b"[" * 100_000, b"\xff", b'{"a": 1}']
    assert list(reader.feed(b"\n".join(lines) + b"\n")) == [{"a": 1}]
    assert reader.malformed == 5


def test_an_endless_line_is_one_fault_and_the_next_line_is_read():
    reader = MessageReader()
    for _ in range(3):
        assert list(reader.feed(b"x" * (MAX_MESSAGE_BYTES + 1))) == []
    assert list(reader.feed(b'x\n{"a": 1}\n')) == [{"a": 1}]
    assert reader.malformed == 1


def test_received_values_are_bounded():
    values = [0, -9, 2**31 - 1, 2**31, True, 1.0, "1", None]
    assert [whole_number(value) for value in values] == [0, -9, 2**31 - 1, None, None, None, None, None]
    assert text_lines(["a", 1, "long text"], 2, 4) == ("1", "long") and text_lines("abc", 2, 4) == ()
    assert file_digests({"a": "0f", "b": 3}) == {"a": "0f"} and file_digests(["a"]) == {}
