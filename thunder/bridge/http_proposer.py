"""Proposals of another bridge, which the proposer asks over HTTP; a busy bridge is asked again."""

from __future__ import annotations

import json
import math
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from thunder import digest
from thunder.bridge import schemas
from thunder.errors import ClusterError, RunFailed, ThunderError, UsageError
from thunder.evaluation.cases import Case
from thunder.evaluation.engines import OnFinished, Proposal, ignore_progress

CONNECT, ANSWER, PATIENCE = 5.0, 60.0, 30.0  # seconds: to connect, for one answer, for a busy bridge
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
LARGEST_BODY, LARGEST_ANSWER = 60_000, 1 << 24  # bytes; a bridge takes 65,536 by default
BUSY_STATUSES = (429, 503)
SPLIT_STATUSES = (413, 422, 500, 504)  # a request of fewer rows may succeed


@dataclass(frozen=True)
class BridgeAddress:
    """The address of a bridge. prefix: of its paths, without the last slash."""

    scheme: str
    host: str
    port: int
    prefix: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.prefix}"


def parse_address(engine: str) -> BridgeAddress:
    """The address in `http://HOST:PORT`, `https://...` or `http:` before either. Raises UsageError."""
    text = engine.removeprefix("http:") if engine.startswith(("http:http://", "http:https://")) else engine
    fix = "--engine http://HOST:PORT of a `thunder agp serve`"
    try:
        parts = urlsplit(text)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError) as error:
        raise UsageError(f"--engine {engine}: not an address ({error})", fix) from None
    if parts.username is not None or parts.password is not None:
        # logs would show it, and a bridge asks for a bearer token, not for a name and a password
        raise UsageError("--engine: the address holds a name or a password", fix="--engine-bearer-file FILE")
    if not parts.hostname or parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise UsageError(f"--engine {engine}: not an address of a bridge", fix)
    return BridgeAddress(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))


class HttpProposer:
    """Proposals of another bridge; see ProposalEngine. Its decisions do not count: the gate here decides again."""

    def __init__(self, address: BridgeAddress, bearer: str | None = None, chunk: int = 16) -> None:
        """Ask the bridge for its model. bearer: a token that this address alone receives; no redirect is followed.

        Raises ClusterError where the bridge cannot be reached, has no model or is no bridge, UsageError where it
        requires a token.
        """
        self.address, self.chunk, self._bearer = address, chunk, bearer
        self._identity: dict[str, Any] = {}
        self._identity = self._read_identity()

    def propose(self, cases: Sequence[Case], finished: OnFinished = ignore_progress) -> Iterator[Proposal]:
        """See ProposalEngine.

        Raises ClusterError and RunFailed where the bridge does not answer, or where its model has changed.
        """
        for start in range(0, len(cases), self.chunk):
            part = cases[start : start + self.chunk]
            requested = [case for case in part if case.input.strip()]
            proposals = iter([one for group in _split_by_size(requested) for one in self._request_proposals(group)])
            if self._read_identity() != self._identity:
                raise RunFailed(
                    f"{self.address}: the model or engine of the bridge has changed",
                    fix="start again, from the first row",
                )
            # a bridge takes no empty text
            yield from [next(proposals) if case.input.strip() else Proposal(case.input) for case in part]
            finished(len(part))

    def describe(self) -> dict[str, Any]:
        """See ProposalEngine; the values are those that the other bridge reports."""
        return {"engine": "http", **self._identity}

    def _read_identity(self) -> dict[str, Any]:
        """The digests, engine and version that the other bridge reports."""
        status, data = self._request_with_retries("GET", "/health", None)
        try:
            health = schemas.HealthAnswer.model_validate_json(data)
        except ValidationError:
            raise self._error(status, data) from None
        if health.status != "ok":
            raise ClusterError(
                f"{self.address}: {health.status}: {health.reason}", fix="read the output of that service"
            )
        digests = {"base_sha256": health.base_digest, "adapter_sha256": health.adapter_digest}
        return {**digests, "of": health.engine, "version": health.version}

    def _request_proposals(self, cases: Sequence[Case]) -> list[Proposal]:
        """A proposal for each of some rows, in one request, or in two requests of half the rows where that fails."""
        if not cases:
            return []
        status, data = self._request_with_retries("POST", "/propose", _request_body(cases))
        if status == 200:
            return self._parse_proposals(cases, data)
        if status in SPLIT_STATUSES and len(cases) > 1:
            middle = len(cases) // 2
            return [*self._request_proposals(cases[:middle]), *self._request_proposals(cases[middle:])]
        if status == 413 or (status == 422 and (_stated_error(data).field or "").endswith("asr_text")):
            return [Proposal(cases[0].input, accepted=False)]  # the text is longer than the bridge allows
        raise self._error(status, data, cases[0].row_id)

    def _parse_proposals(self, cases: Sequence[Case], data: bytes) -> list[Proposal]:
        try:
            rows = schemas.BatchAnswer.model_validate_json(data).rows
        except ValidationError as error:
            raise RunFailed(
                f"{self.address}: not an answer of a bridge: {error.errors()[0]['msg']}", fix=_FIX
            ) from None
        if [row.feat_id for row in rows] != [_request_id(case) for case in cases]:
            raise RunFailed(f"{self.address}: the answer is for other rows than the request", fix=_FIX)
        return [_proposal(row) for row in rows]

    def _request_with_retries(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """Status and body of an answer. A busy bridge is asked again, as is one that answered before.

        Raises ClusterError.
        """
        deadline, pause = time.monotonic() + PATIENCE, FIRST_PAUSE
        while True:
            try:
                status, data, retry_after = self._request(method, path, body)
                if status not in BUSY_STATUSES or _states_failure(data):
                    return status, data
                answered = True
                fault, fix = f"busy ({status}: {_stated_error(data).error})", "ask again later"
            except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
                answered, retry_after = False, 0.0
                fault = f"no answer: {str(error) or type(error).__name__}"
                fix = f"check that it runs: curl {self.address}/health"
            pause = min(LONGEST_PAUSE, max(2 * pause, retry_after))
            if (not answered and not self._identity) or time.monotonic() + pause > deadline:
                raise ClusterError(f"{self.address}: {fault}", fix)
            time.sleep(pause)

    def _request(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes, float]:
        """Status, body and the seconds of Retry-After (0: none), on a connection of its own.

        Neither proxies nor credentials of the environment are used, no redirect is followed, and no content encoding
        is requested or undone, so that LARGEST_ANSWER bounds the memory.
        """
        headers = {"Content-Type": "application/json", "Connection": "close", "Accept-Encoding": "identity"}
        headers |= {"Authorization": f"Bearer {self._bearer}"} if self._bearer else {}
        deadline, data = time.monotonic() + ANSWER, bytearray()
        with httpx.stream(
            method,
            f"{self.address}{path}",
            content=body,
            headers=headers,
            timeout=httpx.Timeout(ANSWER, connect=CONNECT),
            follow_redirects=False,
            trust_env=False,
            verify=self._tls,
        ) as response:
            for part in response.iter_raw():
                data += part
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout(f"not complete after {ANSWER:g} s")
                if len(data) >= LARGEST_ANSWER:
                    break
            retry_after = response.headers.get("Retry-After", "")
            return response.status_code, bytes(data), float(retry_after) if retry_after.isdecimal() else 0.0

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """The certificate authorities that the system trusts, those that SSL_CERT_FILE names included."""
        return ssl.create_default_context()

    def _error(self, status: int, data: bytes, row_id: str = "") -> ThunderError:
        """The error for an answer without proposals."""
        row = f"row '{row_id}': " if row_id else ""
        text = f"{self.address}: {row}{status}: {_stated_error(data).error}"
        if status == 401:
            return UsageError(text, fix="--engine-bearer-file FILE with its token (mode 0600)")
        if 300 <= status < 400:
            return ClusterError(f"{text} (a redirect, which is not followed)", fix=_FIX)
        return ClusterError(text, fix=_FIX)


_FIX = "name the address of a `thunder agp serve` of this version"


def _split_by_size(cases: Sequence[Case]) -> Iterator[list[Case]]:
    """The cases in their order, in groups whose requests have at most LARGEST_BODY bytes."""
    group: list[Case] = []
    for case in cases:
        if group and len(_request_body([*group, case])) > LARGEST_BODY:
            yield group
            group = []
        group.append(case)
    yield group


def _request_body(cases: Sequence[Case]) -> bytes:
    return json.dumps({"rows": [_request_row(case) for case in cases]}, ensure_ascii=False).encode()


def _request_row(case: Case) -> dict[str, Any]:
    """A row as it is sent: its text, and those of its fields that a bridge takes."""
    fields = {name: case.fields.get(name) for name in ("partition", "script")}
    valid = {
        name: text for name, text in fields.items() if isinstance(text, str) and 0 < len(text) <= schemas.LONGEST_ID
    }
    return {"feat_id": _request_id(case), "asr_text": case.input, **valid}


def _request_id(case: Case) -> str:
    """The id of a row, or its digest where the id is longer than a bridge takes."""
    return case.row_id if len(case.row_id) <= schemas.LONGEST_ID else digest.sha256_bytes(case.row_id.encode())


def _proposal(row: schemas.RowDecision) -> Proposal:
    rules, confidence = {reason.rule for reason in row.reasons}, row.metrics.confidence
    return Proposal(
        row.proposal,
        math.log(confidence) if confidence and confidence > 0 else None,
        finished="unfinished" not in rules,
        accepted="withheld" not in rules,
        margin=row.metrics.margin,
    )


def _stated_error(data: bytes) -> schemas.ErrorAnswer:
    """The error that an answer states."""
    try:
        return schemas.ErrorAnswer.model_validate_json(data)
    except ValidationError:
        return schemas.ErrorAnswer(error="not an answer of a bridge")


def _states_failure(data: bytes) -> bool:
    """Whether a bridge reports a model that cannot be loaded: it will never answer."""
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and (
        answer.get("status") == "failed" or str(answer.get("error")).startswith("failed:")
    )
