"""Run the service as a process: its port, its bearer token and its signals."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thunder.bridge import proposers
from thunder.bridge.bridge_settings import ServeSettings
from thunder.bridge.decisions import ProposalDecider
from thunder.bridge.gate.gate_rules import Rulebook
from thunder.bridge.proof import keys
from thunder.bridge.proof.keys import KeyRing
from thunder.bridge.proof.provenance import ProvenanceLog
from thunder.errors import ClusterError, Interrupted, UsageError

BACKLOG = 1024
ROWS_WITHOUT_MODEL = 1024  # rows of one write to the log, for an engine without a model


def required_bearer_token(settings: ServeSettings) -> str | None:
    """The bearer token that requests must have; None on loopback without --bearer-file.

    Raises UsageError where a token is needed and none is given, or where others can read its file.
    """
    from thunder.bridge.service.http_app import is_loopback

    if settings.bearer_file is None:
        if not is_loopback(settings.host):
            raise UsageError(
                f"--host {settings.host}: other machines could reach the service without a token",
                fix="openssl rand -hex 32 > bearer && chmod 600 bearer, then --bearer-file bearer",
            )
        return None
    return keys.read_bearer_token(Path(settings.bearer_file).expanduser())


def open_listening_socket(host: str, port: int) -> socket.socket:
    """A socket that accepts connections from now on. Raises ClusterError where the address or port is not available."""
    try:
        [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        raise ClusterError(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            fix="stop the program that uses it, or give --port 0",
        ) from None
    return listening


def serve_bridge(
    settings: ServeSettings,
    book: Rulebook,
    ring: KeyRing,
    log: ProvenanceLog,
    on_start: Callable[[dict[str, Any]], None],
) -> None:
    """Serve until SIGTERM or SIGINT, then answer the requests in flight and return.

    on_start: called once, when the service accepts connections, with its address.

    Raises UsageError and ClusterError as `required_bearer_token` and `open_listening_socket` do, Interrupted after a
    SIGINT.
    """
    import uvicorn

    from thunder.bridge.service import header_timeout

    proposers.check_engine_options(settings)
    secret = required_bearer_token(settings)
    config = uvicorn.Config(
        _application(settings, book, ring, log, secret),
        log_level="warning",
        access_log=False,
        server_header=False,
        loop="asyncio",
        http=header_timeout.protocol_with_header_timeout(settings.deadline),
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        timeout_graceful_shutdown=max(1, round(settings.drain)),
    )
    received: list[int] = []
    # uvicorn raises the signal again after it has stopped; these handlers take it
    previous = {number: signal.signal(number, lambda number, _: received.append(number)) for number in _END_SIGNALS}
    try:
        with open_listening_socket(settings.host, settings.port) as listening:
            on_start(
                _describe_service(settings, listening)
                | {"rules_id": book.id, "signing": ring.active, "log": str(log.path)}
            )
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if signal.SIGINT in received:
        raise Interrupted("stopped after the requests in flight were answered")


def _application(settings: ServeSettings, book: Rulebook, ring: KeyRing, log: ProvenanceLog, secret: str | None) -> Any:
    """The service with its worker, which loads the engine once it is started."""
    from thunder.bridge.service.http_app import BridgeService
    from thunder.bridge.service.worker import BridgeWorker

    worker = BridgeWorker(
        lambda: proposers.load_proposer(settings),
        lambda engine: ProposalDecider(engine, book, ring, settings.log_texts),
        log,
        queue=settings.queue,
        batch_size=ROWS_WITHOUT_MODEL
        if settings.engine.partition(":")[0] in ("identity", "file")
        else settings.batch_size,
        linger=settings.linger_ms / 1000,
    )
    return BridgeService(settings, worker, book, secret).application()


_END_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _describe_service(settings: ServeSettings, listening: socket.socket) -> dict[str, Any]:
    """The address and the process id of the service, for the program that started it."""
    port = listening.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return {
        "event": "serving",
        "url": f"http://{host}:{port}",
        "host": settings.host,
        "port": port,
        "pid": os.getpid(),
        "engine": settings.engine,
    }
