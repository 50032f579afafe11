"""The HTTP application of the bridge: GET /health, POST /propose, GET /openapi.json; every error is JSON."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from thunder.bridge import schemas
from thunder.bridge.bridge_settings import ServeSettings
from thunder.bridge.gate.gate_rules import Rulebook
from thunder.bridge.schemas import BadRequest
from thunder.bridge.service.openapi import openapi_document
from thunder.bridge.service.worker import BridgeJob, BridgeWorker, NotRecorded, QueueFull
from thunder.version import __version__

LOCAL_NAMES = {"localhost", "127.0.0.1", "::1"}


class BridgeService:
    """The endpoints. secret: the bearer token that requests must have, or None on loopback."""

    def __init__(self, settings: ServeSettings, worker: BridgeWorker, book: Rulebook, secret: str | None) -> None:
        self.settings, self.worker, self.book, self.secret = settings, worker, book, secret
        self._started = time.monotonic()
        self._routes = [
            Route("/health", self.health, methods=["GET"]),
            Route("/propose", self.propose, methods=["POST"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
        ]
        self._document = _encode_json(openapi_document(self._routes, settings))

    def application(self) -> Starlette:
        """The ASGI application. It starts the worker, and lets it answer the waiting requests before it stops."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncGenerator[None]:
            self.worker.start()
            yield
            self.worker.drain()
            await asyncio.to_thread(self.worker.wait_until_drained, self.settings.drain)

        application = Starlette(
            routes=self._routes,
            exception_handlers={
                HTTPException: _on_http_exception,
                BadRequest: _on_bad_request,
                Exception: _on_internal_error,
            },
            lifespan=lifespan,
        )
        application.router.redirect_slashes = False  # /health/ is not /health
        return application

    async def health(self, request: Request) -> Response:
        """Report the state of the service, and whether it can answer.

        The status is 200 where it can, and 503 while the model loads or where it cannot be loaded.
        """
        self._authorize(request)
        worker = self.worker
        decider, counts = worker.decider, worker.counts
        health = schemas.HealthAnswer(
            status=worker.status,
            reason=worker.reason or None,
            version=__version__,
            engine=self.settings.engine.partition(":")[0],
            base_digest=decider.base_digest if decider else None,
            adapter_digest=decider.adapter_digest if decider else None,
            rules_id=self.book.id,
            signing=worker.log.signing,
            requests=counts.requests,
            accepted=counts.decisions["accept"],
            rejected=counts.decisions["reject"],
            kept=counts.decisions["keep"],
            waiting=worker.waiting,
            records=worker.log.lines,
            chain_head=worker.log.head,
            uptime_s=round(time.monotonic() - self._started, 3),
        )
        return _json_response(200 if worker.status == "ok" else 503, health.model_dump())

    async def openapi(self, request: Request) -> Response:
        """Return this document."""
        self._authorize(request)
        return Response(self._document, media_type="application/json")

    async def propose(self, request: Request) -> Response:
        """Propose a correction for each row, and decide on it.

        The answer is sent once the decisions are in the log.
        """
        started = time.monotonic()
        self._authorize(request)
        body = await self._read_body(request)
        content = schemas.parse_request(body, self.settings)
        if self.worker.status != "ok":
            return _error_response(
                503, f"{self.worker.status}: {self.worker.reason or 'the model is loading'}", retry=5
            )
        is_batch = isinstance(content, schemas.BatchRequest)
        loop = asyncio.get_running_loop()
        job = BridgeJob(
            schemas.request_cases(content), content.request_id or uuid4().hex, is_batch, loop.create_future()
        )
        limit = self.settings.deadline
        if content.options and content.options.deadline_ms:
            limit = min(limit, content.options.deadline_ms / 1000)
        try:
            self.worker.submit(job)
            decisions, breaker = await asyncio.wait_for(job.answer, limit - (time.monotonic() - started))
        except QueueFull as full:
            return _error_response(429, str(full), retry=full.seconds)
        except TimeoutError:
            job.given_up = True
            return _error_response(504, f"not answered within {limit:g} s")
        except NotRecorded:
            return _error_response(503, "the decision could not be recorded", retry=5)
        answer: dict[str, Any] = {
            "request_id": job.request_id,
            "ms": round(1000 * (time.monotonic() - started), 3),
        }
        if is_batch:
            rows = [schemas.row_decision(decision) for decision in decisions]
            return _json_response(200, {**answer, "breaker": breaker, "rows": rows})
        return _json_response(200, answer | schemas.row_decision(decisions[0]))

    def _authorize(self, request: Request) -> None:
        """Check the bearer token, or on loopback the host name. Raises BadRequest."""
        if self.secret is not None:
            kind, _, token = request.headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self.secret.encode()):
                raise BadRequest(401, "a bearer token is needed", "Authorization")
        elif _host_name(request.headers.get("host", "")) not in LOCAL_NAMES | {self.settings.host}:
            # a page in a browser can reach loopback under a host name of its own (DNS rebinding)
            raise BadRequest(421, "this service answers to localhost only", "Host")

    async def _read_body(self, request: Request) -> bytes:
        """The body of a request, up to the limit. Raises BadRequest."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise BadRequest(415, f"content-type '{kind}'; expected application/json", "Content-Type")
        limit, body = self.settings.body_limit, bytearray()
        stated_length = request.headers.get("content-length", "0")
        try:
            async with asyncio.timeout(self.settings.deadline):
                if int(stated_length) <= limit:
                    async for part in request.stream():
                        body += part
                        if len(body) > limit:
                            break
        except TimeoutError:
            raise BadRequest(408, f"the body did not arrive within {self.settings.deadline:g} s") from None
        except (ClientDisconnect, ValueError):
            raise BadRequest(400, "the body did not arrive complete") from None
        if int(stated_length) > limit or len(body) > limit:
            raise BadRequest(413, f"more than {limit} bytes")
        return bytes(body)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_name(host: str) -> str:
    """A Host header without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _encode_json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _json_response(status: int, content: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(_encode_json(content), status, headers, media_type="application/json")


def _error_response(status: int, error: str, field: str | None = None, retry: int | None = None) -> Response:
    headers = {} if retry is None else {"Retry-After": str(retry)}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _json_response(status, {"error": error, "field": field}, headers)


def _on_bad_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, BadRequest)
    return _error_response(error.status, error.error, error.field)


def _on_http_exception(_: Request, error: Exception) -> Response:
    """Errors of starlette itself: an unknown path or method."""
    assert isinstance(error, HTTPException)
    response = _error_response(error.status_code, str(error.detail))
    response.headers.update(error.headers or {})
    return response


def _on_internal_error(_: Request, error: Exception) -> Response:
    """An error in the service or the engine; its traceback is in the output of the service."""
    return _error_response(500, "internal error")
