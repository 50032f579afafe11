"""What a launcher and an agent say to each other over an ssh channel: JSON objects, a line each, in both directions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from thunder.units import Seconds

# Agents print it before each message: a login shell may print something of its own, which is no message.
MESSAGE_PREFIX = b"THUNDER-AGENT "
PROTOCOL = 1
MAX_MESSAGE_BYTES = 4 << 20
# Both sides speak at least every so often, and one that has not been heard for SILENCE is taken to be gone: a host that
# loses power closes no connection. The ring does not need the LAN, so a LAN that is away for seconds stops nothing.
HEARTBEAT_INTERVAL = Seconds(1)
SILENCE_TIMEOUT = Seconds(20)


def encode_message(message: dict[str, Any], mark: bytes = b"") -> bytes:
    """A message as it travels."""
    # half a character, as a file's name may hold, becomes JSON's own escape for it
    return mark + json.dumps(message, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


class MessageReader:
    """Cuts what arrives into messages; what is none is counted, and one that never ends is dropped in pieces."""

    def __init__(self, mark: bytes = b"") -> None:
        self.mark = mark
        self.malformed = 0
        self.last_unmarked_line = b""  # the last unmarked line: often says why there is no message
        self._rest = b""
        self._dropping = False

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The messages that are complete with these bytes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines and self._dropping:
            lines, self._dropping = lines[1:], False
        if len(self._rest) > MAX_MESSAGE_BYTES:
            self.malformed += not self._dropping
            self._rest, self._dropping = b"", True
        for each in lines:
            if message := self._message(each):
                yield message

    def _message(self, each: bytes) -> dict[str, Any] | None:
        if not each.startswith(self.mark):
            self.last_unmarked_line = each.strip()[:500] or self.last_unmarked_line
            return None
        try:
            message = json.loads(each[len(self.mark) :])
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            self.malformed += 1
            return None
        return message


def whole_number(value: Any) -> int | None:
    """A whole number that the other side sent, if it is one that a process can end with or be counted by."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 31 else None


def text_lines(value: Any, most: int, longest: int) -> tuple[str, ...]:
    """The last lines that the other side sent, so many and so long at most."""
    return tuple(str(text)[:longest] for text in value[-most:]) if isinstance(value, list) else ()


def file_digests(value: Any) -> dict[str, str]:
    """Name -> SHA-256 as the other side sent it; what is no text is left out."""
    items = value.items() if isinstance(value, dict) else ()
    return {name: sha256 for name, sha256 in items if isinstance(sha256, str)}
