"""Requests and answers of the HTTP service as pydantic models; the OpenAPI document is derived from them."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic_core
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from thunder.bridge.bridge_settings import ServeSettings
from thunder.bridge.decisions import SignedDecision
from thunder.evaluation import cases
from thunder.evaluation.cases import Case

LONGEST_ID = 200


def _accept_whole_float(value: Any) -> Any:
    """In JSON, 100.0 is a whole number too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_accept_whole_float)]
Milliseconds = Annotated[int, Field(ge=100, le=3_600_000), BeforeValidator(_accept_whole_float)]


class _RequestModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class RequestRow(_RequestModel):
    """A recognized text, and what is known about it."""

    feat_id: str = Field(min_length=1, max_length=LONGEST_ID, description="Id of the row.")
    asr_text: str = Field(pattern=r"\S", description="The recognized text.")
    partition: str | None = Field(
        None,
        max_length=LONGEST_ID,
        description="stable, boundary, uncertain, recovery or novelty; any other counts as novelty.",
    )
    script: str | None = Field(
        None, min_length=1, max_length=LONGEST_ID, description="nko or latin; by default the script of the letters."
    )
    sigils: str | None = Field(None, max_length=LONGEST_ID, description="Sigils of the trajectory; not used yet.")
    trajectory_scalars: dict[str, float] | None = Field(
        None, description="The partition follows from these where it is absent."
    )
    spans: list[tuple[Whole, Whole]] | None = Field(
        None, description="Code points [start, end) of asr_text (NFC) that may be edited."
    )


class RequestOptions(_RequestModel):
    """Options of one request."""

    deadline_ms: Milliseconds | None = Field(None, description="At most the deadline of the service.")


class RowRequest(_RequestModel):
    """A request for one row."""

    request_id: str | None = Field(None, min_length=1, max_length=LONGEST_ID, description="The answer repeats it.")
    row: RequestRow
    options: RequestOptions | None = None


class BatchRequest(_RequestModel):
    """A request for rows that form one batch: if too many of them would change, none does."""

    request_id: str | None = Field(None, min_length=1, max_length=LONGEST_ID, description="The answer repeats it.")
    rows: list[RequestRow] = Field(min_length=1)
    options: RequestOptions | None = None


class RuleReason(BaseModel):
    """A broken rule."""

    rule: str
    said: str


class GateMetrics(BaseModel):
    """Measurements of the gate: edits in code points, a probability, nats per code point."""

    edits: int
    chars: int
    ratio: float
    confidence: float | None
    margin: float | None
    partition: str
    partition_source: str
    script: str


class RowDecision(BaseModel):
    """The decision on one row; without a token its final_text is not admissible."""

    feat_id: str
    proposal: str
    decision: str = Field(pattern="^(accept|reject|keep)$")
    final_text: str
    reasons: list[RuleReason]
    metrics: GateMetrics
    token: str | None
    provenance_id: str


class RowAnswer(RowDecision):
    """The answer to a request for one row."""

    request_id: str
    ms: float


class BatchAnswer(BaseModel):
    """The answer to a request for several rows. breaker: why the batch was stopped, or null."""

    request_id: str
    breaker: str | None
    rows: list[RowDecision]
    ms: float


class HealthAnswer(BaseModel):
    """The state and the counts of the service. chain_head: SHA-256 of the log's last line."""

    status: str
    reason: str | None = None
    version: str
    engine: str
    base_digest: str | None
    adapter_digest: str | None
    rules_id: str
    signing: str
    requests: int
    accepted: int
    rejected: int
    kept: int
    waiting: int
    records: int
    chain_head: str
    uptime_s: float


class ErrorAnswer(BaseModel):
    """An error, and the field of the request that it is about."""

    error: str
    field: str | None = None


class BadRequest(Exception):
    """A request that cannot be answered; the answer is an ErrorAnswer."""

    def __init__(self, status: int, error: str, field: str | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.field = status, error, field


def parse_request(body: bytes, settings: ServeSettings) -> RowRequest | BatchRequest:
    """Parse the body of a request. Raises BadRequest: 400 where it is not JSON, 422 where a field is not valid."""
    try:
        content = pydantic_core.from_json(body)
    except ValueError as error:
        raise BadRequest(400, f"not JSON: {error}") from None
    kind: type[RowRequest] | type[BatchRequest] = (
        BatchRequest if isinstance(content, dict) and "rows" in content else RowRequest
    )
    try:
        request = kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise BadRequest(400, f"not JSON: {first['msg']}") from None
        raise BadRequest(422, first["msg"], ".".join(map(str, first["loc"])) or None) from None
    rows = (
        [("row", request.row)]
        if isinstance(request, RowRequest)
        else [(f"rows.{number}", row) for number, row in enumerate(request.rows)]
    )
    if len(rows) > settings.most_rows:
        raise BadRequest(422, f"{len(rows)} rows; at most {settings.most_rows}", "rows")
    for where, row in rows:
        if len(row.asr_text) > settings.longest_text:
            text = f"{len(row.asr_text)} code points; at most {settings.longest_text}"
            raise BadRequest(422, text, f"{where}.asr_text")
    return request


def request_cases(request: RowRequest | BatchRequest) -> list[Case]:
    """The rows of a request as cases."""
    rows = [request.row] if isinstance(request, RowRequest) else request.rows
    return [cases.case_from_text(row.feat_id, row.asr_text, row.model_dump(exclude_none=True)) for row in rows]


def row_decision(decision: SignedDecision) -> dict[str, Any]:
    """A decision as a RowDecision."""
    verdict = decision.verdict
    return {
        "feat_id": decision.case.row_id,
        "proposal": decision.proposal.text,
        "decision": verdict.decision,
        "final_text": verdict.text,
        "reasons": [reason._asdict() for reason in verdict.reasons],
        "metrics": {
            "edits": verdict.edits,
            "chars": verdict.chars,
            "ratio": round(verdict.ratio, 6),
            "confidence": verdict.confidence,
            "margin": verdict.margin,
            "partition": verdict.partition,
            "partition_source": verdict.partition_source,
            "script": verdict.script,
        },
        "token": decision.token,
        "provenance_id": decision.record["rid"],
    }
