"""A timeout for the head of a request: uvicorn's protocol that closes connections on which none arrives."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def protocol_with_header_timeout(seconds: float) -> type[H11Protocol]:
    """uvicorn's protocol, which closes a connection where the head of a request takes longer than this.

    A check runs every `seconds`, so a connection closes after one to two times this.
    """

    class HeaderTimeoutProtocol(H11Protocol):
        """uvicorn itself closes connections that are idle after a request, but not those that never complete one."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._last_wait: Any = None
            self._schedule_check()

        def connection_lost(self, exc: Exception | None) -> None:
            self._timer.cancel()
            super().connection_lost(exc)

        def _schedule_check(self) -> None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._check)

        def _check(self) -> None:
            answering = self.cycle is not None and not self.cycle.response_complete
            waiting = not answering and self.conn.their_state is h11.IDLE
            # the same cycle as at the last check: no request arrived in between
            if waiting and self._last_wait == (self.cycle,):
                self.transport.close()
                return
            self._last_wait = (self.cycle,) if waiting else None
            self._schedule_check()

    return HeaderTimeoutProtocol
