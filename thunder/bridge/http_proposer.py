"""Another bridge as the proposer: its POST /propose over HTTP, with patience where it is busy."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from thunder import digest
from thunder.bridge import schemas
from thunder.errors import ClusterError, RunFailed, ThunderError, UsageError
from thunder.evaluation.cases import Case
from thunder.evaluation.engines import OnFinished, Proposal, ignore_progress

CONNECT, ANSWER, PATIENCE = 5.0, 60.0, 30.0  # seconds: to be let in, for one answer, for a bridge that is busy
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
LARGEST_BODY, LARGEST_ANSWER = 60_000, 1 << 24  # bytes; a bridge takes 65,536 unless it was told otherwise
BUSY_STATUSES = (429, 503)
SPLIT_STATUSES = (413, 422, 500, 504)  # what fewer rows at once can help against


@dataclass(frozen=True)
class BridgeAddress:
    """Where a bridge is. prefix: of its paths, without the last slash."""

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
        raise UsageError(f"--engine {engine}: no address ({error})", fix) from None
    if parts.username is not None or parts.password is not None:
        # it would stand in logs, and be sent as something else than what a bridge asks for
        raise UsageError("--engine: a name or password stands in the address", fix="--engine-bearer-file FILE")
    if not parts.hostname or parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise UsageError(f"--engine {engine}: no address of a bridge", fix)
    return BridgeAddress(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))


class HttpProposer:
    """Proposals of another bridge; see Engine. What that one decides is not taken over: the gate here decides again."""

    def __init__(self, where: BridgeAddress, bearer: str | None = None, chunk: int = 16) -> None:
        """Ask it what it is. bearer: sent to this address alone; nothing is ever followed to another.

        Raises ClusterError where it cannot be reached, has no model or is no bridge, UsageError where it wants a token.
        """
        self.where, self.chunk, self._bearer = where, chunk, bearer
        self._is: dict[str, Any] = {}
        self._is = self._what_it_is()

    def propose(self, cases: Sequence[Case], finished: OnFinished = ignore_progress) -> Iterator[Proposal]:
        """See Engine. Raises ClusterError and RunFailed where there are no answers, or other weights than before."""
        for start in range(0, len(cases), self.chunk):
            part = cases[start : start + self.chunk]
            asked = [case for case in part if case.input.strip()]
            answers = iter([proposal for each in _split_by_size(asked) for proposal in self._answers(each)])
            if self._what_it_is() != self._is:
                raise RunFailed(
                    f"{self.where}: another model or engine proposes there now", fix="start again, from the first row"
                )
            # nothing can be asked of no text
            yield from [next(answers) if case.input.strip() else Proposal(case.input) for case in part]
            finished(len(part))

    def describe(self) -> dict[str, Any]:
        """See Engine; what the other bridge says of itself."""
        return {"engine": "http", **self._is}

    def _what_it_is(self) -> dict[str, Any]:
        """What decides the proposals of the other bridge, as it says itself."""
        status, data = self._patiently("GET", "/health", None)
        try:
            told = schemas.HealthAnswer.model_validate_json(data)
        except ValidationError:
            raise self._fault(status, data) from None
        if told.status != "ok":
            raise ClusterError(f"{self.where}: {told.status}: {told.reason}", fix="look at the output of that service")
        names = {"base_sha256": told.base_digest, "adapter_sha256": told.adapter_digest}
        return {**names, "of": told.engine, "version": told.version}

    def _answers(self, cases: Sequence[Case]) -> list[Proposal]:
        """A proposal for each of some rows, asked for at once; in halves where that is too much."""
        if not cases:
            return []
        status, data = self._patiently("POST", "/propose", _request_body(cases))
        if status == 200:
            return self._read(cases, data)
        if status in SPLIT_STATUSES and len(cases) > 1:
            middle = len(cases) // 2
            return [*self._answers(cases[:middle]), *self._answers(cases[middle:])]
        if status == 413 or (status == 422 and (_stated_error(data).field or "").endswith("asr_text")):
            return [Proposal(cases[0].input, accepted=False)]  # longer than the texts that it takes
        raise self._fault(status, data, cases[0].row_id)

    def _read(self, cases: Sequence[Case], data: bytes) -> list[Proposal]:
        try:
            rows = schemas.BatchAnswer.model_validate_json(data).rows
        except ValidationError as error:
            raise RunFailed(f"{self.where}: no answer of a bridge: {error.errors()[0]['msg']}", fix=_FIX) from None
        if [row.feat_id for row in rows] != [_request_id(case) for case in cases]:
            raise RunFailed(f"{self.where}: answers to other rows than were asked for", fix=_FIX)
        return [_proposal(row) for row in rows]

    def _patiently(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """Status and body of an answer, asked for again while the bridge is busy, or gone that was there before.

        Raises ClusterError.
        """
        until, pause = time.monotonic() + PATIENCE, FIRST_PAUSE
        while True:
            try:
                status, data, again = self._ask(method, path, body)
                if status not in BUSY_STATUSES or _states_failure(data):
                    return status, data
                said, fix = f"busy ({status}: {_stated_error(data).error})", "ask again later"
            except (OSError, HTTPException, UnicodeError) as error:
                said, again = f"no answer: {error or type(error).__name__}", 0.0
                fix = f"is it running there? curl {self.where}/health"
            pause = min(LONGEST_PAUSE, max(2 * pause, again))
            if not self._is and said.startswith("no answer") or time.monotonic() + pause > until:
                raise ClusterError(f"{self.where}: {said}", fix)
            time.sleep(pause)

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes, float]:
        """Status, body, and after how many seconds it may be asked again, on a connection of its own."""
        where, until = self.where, time.monotonic() + ANSWER
        kind = HTTPSConnection if where.scheme == "https" else HTTPConnection
        headers = {"Content-Type": "application/json", "Connection": "close"}
        headers |= {"Authorization": f"Bearer {self._bearer}"} if self._bearer else {}
        connection, data = kind(where.host, where.port, timeout=CONNECT), b""
        try:
            connection.connect()
            connection.sock.settimeout(ANSWER)
            connection.request(method, where.prefix + path, body, headers)
            answer = connection.getresponse()
            while (part := answer.read1(LARGEST_ANSWER)) and len(data) < LARGEST_ANSWER:
                data += part
                if time.monotonic() > until:
                    raise TimeoutError(f"not whole after {ANSWER:g} s")
            again = answer.headers.get("Retry-After", "")
            return answer.status, data, float(again) if again.isdecimal() else 0.0
        finally:
            connection.close()

    def _fault(self, status: int, data: bytes, row_id: str = "") -> ThunderError:
        """The error for an answer that is none."""
        about = f"row '{row_id}': " if row_id else ""
        said = f"{self.where}: {about}{status}: {_stated_error(data).error}"
        if status == 401:
            return UsageError(said, fix="--engine-bearer-file FILE with its token (mode 0600)")
        if 300 <= status < 400:
            return ClusterError(f"{said} (it sends on to elsewhere, which is not followed)", fix=_FIX)
        return ClusterError(said, fix=_FIX)


_FIX = "name the address of a `thunder agp serve`, of this version"


def _split_by_size(cases: Sequence[Case]) -> Iterator[list[Case]]:
    """The cases in their order, in parts whose requests a bridge takes."""
    part: list[Case] = []
    for case in cases:
        if part and len(_request_body([*part, case])) > LARGEST_BODY:
            yield part
            part = []
        part.append(case)
    yield part


def _request_body(cases: Sequence[Case]) -> bytes:
    return json.dumps({"rows": [_request_row(case) for case in cases]}, ensure_ascii=False).encode()


def _request_row(case: Case) -> dict[str, Any]:
    """A row as it goes out: its text, and what of its description a bridge takes."""
    said = {name: case.fields.get(name) for name in ("partition", "script")}
    kept = {name: text for name, text in said.items() if isinstance(text, str) and 0 < len(text) <= schemas.LONGEST_ID}
    return {"feat_id": _request_id(case), "asr_text": case.input, **kept}


def _request_id(case: Case) -> str:
    """The id of a row, or its digest where a bridge does not take an id so long."""
    return case.row_id if len(case.row_id) <= schemas.LONGEST_ID else digest.sha256_bytes(case.row_id.encode())


def _proposal(row: schemas.RowDecision) -> Proposal:
    rules, sure = {reason.rule for reason in row.reasons}, row.metrics.confidence
    return Proposal(
        row.proposal,
        math.log(sure) if sure and sure > 0 else None,
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
    """Whether a bridge says that it will never answer: its model cannot be loaded."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(told, dict) and (told.get("status") == "failed" or str(told.get("error")).startswith("failed:"))
