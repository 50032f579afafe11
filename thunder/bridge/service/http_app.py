"""The bridge over HTTP: GET /health, POST /propose, GET /openapi.json; everything else is an error in JSON."""

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

from thunder import __version__
from thunder.bridge import schemas
from thunder.bridge.bridge_settings import ServeSettings
from thunder.bridge.gate.gate_rules import Rulebook
from thunder.bridge.schemas import BadRequest
from thunder.bridge.service import openapi
from thunder.bridge.service.worker import BridgeJob, BridgeWorker, NotRecorded, QueueFull

LOCAL_NAMES = {"localhost", "127.0.0.1", "::1"}


class BridgeService:
    """The endpoints. secret: what a request must bear, or None on loopback."""

    def __init__(self, settings: ServeSettings, worker: BridgeWorker, book: Rulebook, secret: str | None) -> None:
        self.settings, self.worker, self.book, self.secret = settings, worker, book, secret
        self._began = time.monotonic()
        self._description = _encode_json(openapi.openapi_document(settings))

    def application(self) -> Starlette:
        """The ASGI application; it starts the worker and, at its end, lets it answer what waits."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncGenerator[None]:
            self.worker.start()
            yield
            self.worker.drain()
            await asyncio.to_thread(self.worker.join, self.settings.drain)

        application = Starlette(
            routes=[
                Route("/health", self.health, methods=["GET"]),
                Route("/propose", self.propose, methods=["POST"]),
                Route("/openapi.json", self.description, methods=["GET"]),
            ],
            exception_handlers={
                HTTPException: _on_http_exception,
                BadRequest: _on_bad_request,
                Exception: _on_internal_error,
            },
            lifespan=lifespan,
        )
        application.router.redirect_slashes = False  # another path is another path
        return application

    async def health(self, request: Request) -> Response:
        """200 where it can answer, 503 while it loads or where it has failed."""
        self._admit(request)
        worker = self.worker
        decider, counts = worker.decider, worker.counts
        told = schemas.HealthAnswer(
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
            uptime_s=round(time.monotonic() - self._began, 3),
        )
        return _json_response(200 if worker.status == "ok" else 503, told.model_dump())

    async def description(self, request: Request) -> Response:
        """The OpenAPI document."""
        self._admit(request)
        return Response(self._description, media_type="application/json")

    async def propose(self, request: Request) -> Response:
        """A decision on each row of the request, once it is on record."""
        begun = time.monotonic()
        self._admit(request)
        body = await self._body(request)
        asked = schemas.parse_request(body, self.settings)
        if self.worker.status != "ok":
            return _error_response(
                503, f"{self.worker.status}: {self.worker.reason or 'the model is not there yet'}", retry=5
            )
        together = isinstance(asked, schemas.BatchRequest)
        loop = asyncio.get_running_loop()
        job = BridgeJob(schemas.request_cases(asked), asked.request_id or uuid4().hex, together, loop.create_future())
        limit = self.settings.deadline
        if asked.options and asked.options.deadline_ms:
            limit = min(limit, asked.options.deadline_ms / 1000)
        try:
            self.worker.submit(job)
            decisions, breaker = await asyncio.wait_for(job.answer, limit - (time.monotonic() - begun))
        except QueueFull as full:
            return _error_response(429, str(full), retry=full.seconds)
        except TimeoutError:
            job.given_up = True
            return _error_response(504, f"not answered within {limit:g} s")
        except NotRecorded:
            return _error_response(503, "the decision could not be recorded", retry=5)
        told: dict[str, Any] = {"request_id": job.request_id, "ms": round(1000 * (time.monotonic() - begun), 3)}
        if together:
            return _json_response(
                200, {**told, "breaker": breaker, "rows": [schemas.row_decision(each) for each in decisions]}
            )
        return _json_response(200, told | schemas.row_decision(decisions[0]))

    def _admit(self, request: Request) -> None:
        """See that the request may be made. Raises BadRequest."""
        if self.secret is not None:
            kind, _, borne = request.headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(borne.strip().encode(), self.secret.encode()):
                raise BadRequest(401, "a bearer token is needed", "Authorization")
        elif _host_name(request.headers.get("host", "")) not in LOCAL_NAMES | {self.settings.host}:
            # a page in a browser can reach loopback under a name of its own
            raise BadRequest(421, "this service answers to localhost only", "Host")

    async def _body(self, request: Request) -> bytes:
        """The body of a request, as far as it is allowed to go. Raises BadRequest."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise BadRequest(415, f"content-type '{kind}'; expected application/json", "Content-Type")
        limit, body = self.settings.body_limit, bytearray()
        stated = request.headers.get("content-length", "0")
        try:
            async with asyncio.timeout(self.settings.deadline):
                if int(stated) <= limit:
                    async for chunk in request.stream():
                        body += chunk
                        if len(body) > limit:
                            break
        except TimeoutError:
            raise BadRequest(408, f"the body did not come within {self.settings.deadline:g} s") from None
        except (ClientDisconnect, ValueError):
            raise BadRequest(400, "the body did not come whole") from None
        if int(stated) > limit or len(body) > limit:
            raise BadRequest(413, f"more than {limit} bytes")
        return bytes(body)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is this machine's own and no other's."""
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
    """What starlette says itself: no such path, no such method."""
    assert isinstance(error, HTTPException)
    response = _error_response(error.status_code, str(error.detail))
    response.headers.update(error.headers or {})
    return response


def _on_internal_error(_: Request, error: Exception) -> Response:
    """A bug of ours, or of the engine's: its trace is in the service's own output."""
    return _error_response(500, "internal error")
