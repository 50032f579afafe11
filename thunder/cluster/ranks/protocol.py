"""The protocol between launcher and agent over an SSH channel: one JSON object per line, in both directions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from thunder.units import Seconds

# Agents print it before each message, because a login shell may print other text.
MESSAGE_PREFIX = b"THUNDER-AGENT "
PROTOCOL = 1
MAX_MESSAGE_BYTES = 4 << 20
# Both sides send at least this often; a side that is silent for SILENCE_TIMEOUT counts as lost, because a host that
# loses power closes no connection. The ring does not use the LAN, so a LAN outage of seconds stops nothing.
HEARTBEAT_INTERVAL = Seconds(1)
SILENCE_TIMEOUT = Seconds(20)


def encode_message(message: dict[str, Any], mark: bytes = b"") -> bytes:
    """Encode a message as one line."""
    # a surrogate, which a file name may contain, becomes a JSON escape
    return mark + json.dumps(message, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


class MessageReader:
    """Split received bytes into messages; malformed lines are counted, an endless line is dropped in pieces."""

    def __init__(self, mark: bytes = b"") -> None:
        self.mark = mark
        self.malformed = 0
        self.last_unmarked_line = b""  # the last unmarked line: often says why there is no message
        self._rest = b""
        self._dropping = False

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Return the messages that these bytes complete."""
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
    """Return a received integer if it can be an exit code or a count; otherwise None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 31 else None


def text_lines(value: Any, most: int, longest: int) -> tuple[str, ...]:
    """Return the last received lines, limited in number and length."""
    return tuple(str(text)[:longest] for text in value[-most:]) if isinstance(value, list) else ()


def file_digests(value: Any) -> dict[str, str]:
    """Return received name -> SHA-256; entries that are not text are left out."""
    items = value.items() if isinstance(value, dict) else ()
    return {name: sha256 for name, sha256 in items if isinstance(sha256, str)}
