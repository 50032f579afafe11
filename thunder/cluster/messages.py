"""What a launcher and an agent say to each other over an ssh channel: JSON objects, a line each, in both directions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from thunder.units import Seconds

# Agents print it before each message: a login shell may print something of its own, which is no message.
MARK = b"THUNDER-AGENT "
PROTOCOL = 1
LONGEST = 4 << 20
# Both sides speak at least every so often, and one that has not been heard for SILENCE is taken to be gone: a host that
# loses power closes no connection. The ring does not need the LAN, so a LAN that is away for seconds stops nothing.
EVERY = Seconds(1)
SILENCE = Seconds(20)


def line(message: dict[str, Any], mark: bytes = b"") -> bytes:
    """A message as it travels."""
    return mark + json.dumps(message, ensure_ascii=False).encode() + b"\n"


class Reader:
    """Cuts what arrives into messages; what is none is counted, and one that never ends is dropped in pieces."""

    def __init__(self, mark: bytes = b"") -> None:
        self.mark = mark
        self.malformed = 0
        self.noise = b""  # the last unmarked line: often says why there is no message
        self._rest = b""
        self._dropping = False

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The messages that are complete with these bytes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines and self._dropping:
            lines, self._dropping = lines[1:], False
        if len(self._rest) > LONGEST:
            self.malformed += not self._dropping
            self._rest, self._dropping = b"", True
        for each in lines:
            if message := self._message(each):
                yield message

    def _message(self, each: bytes) -> dict[str, Any] | None:
        if not each.startswith(self.mark):
            self.noise = each.strip()[:500] or self.noise
            return None
        try:
            message = json.loads(each[len(self.mark) :])
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            self.malformed += 1
            return None
        return message
