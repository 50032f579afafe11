"""How long the service waits for a request to begin: a connection on which none comes whole is closed."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def protocol_with_header_timeout(seconds: float) -> type[H11Protocol]:
    """uvicorn's protocol, closing connections on which a request's head takes longer than this, or twice as long."""

    class Impatient(H11Protocol):
        """uvicorn itself closes connections that are idle after a request, not those that never finish one."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._seen: Any = None
            self._look_again()

        def connection_lost(self, exc: Exception | None) -> None:
            self._timer.cancel()
            super().connection_lost(exc)

        def _look_again(self) -> None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

        def _look(self) -> None:
            answering = self.cycle is not None and not self.cycle.response_complete
            waiting = not answering and self.conn.their_state is h11.IDLE
            # the same wait as the last time: no request has come in between
            if waiting and self._seen == (self.cycle,):
                self.transport.close()
                return
            self._seen = (self.cycle,) if waiting else None
            self._look_again()

    return Impatient
