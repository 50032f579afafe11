"""The limit on the time to the first header: a connection that is being answered is left alone."""

from __future__ import annotations

import asyncio
import threading
import urllib.error
import urllib.request

import pytest
import uvicorn

from thunder.bridge.service import header_timeout, server

pytestmark = pytest.mark.expensive


def test_who_is_being_answered_is_left_alone():
    async def slow(scope, receive, send):
        await asyncio.sleep(1)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = uvicorn.Config(
        slow, http=header_timeout.protocol_with_header_timeout(0.1), lifespan="off", log_level="critical"
    )
    server_of_it = uvicorn.Server(config)
    with server.open_listening_socket("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server_of_it.run, args=([listening],), daemon=True)
        thread.start()
        try:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
            with urllib.request.urlopen(url, timeout=20) as answer:
                assert answer.read() == b"ok"
        finally:
            server_of_it.should_exit = True
            thread.join(20)
