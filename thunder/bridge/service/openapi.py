"""The OpenAPI description of the service, made from the models of the wire."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from thunder import __version__
from thunder.bridge import schemas
from thunder.bridge.bridge_settings import ServeSettings

_REF = "#/components/schemas/{model}"
_REQUEST_MODELS = (schemas.RowRequest, schemas.BatchRequest)
_RESPONSE_MODELS = (schemas.RowAnswer, schemas.BatchAnswer, schemas.HealthAnswer, schemas.ErrorAnswer)
ERROR_STATUSES = {
    400: "the body is not JSON",
    401: "no bearer token, or another",
    408: "the body did not come in time",
    413: "the body is too large",
    415: "the body is not application/json",
    421: "the host named is not this one",
    422: "a field is missing, of the wrong kind, empty or too long",
    429: "the queue is full; Retry-After says when to ask again",
    500: "the engine failed on these rows",
    503: "the model is not loaded, or the decision could not be recorded",
    504: "the deadline has passed",
}


def openapi_document(settings: ServeSettings) -> dict[str, Any]:
    """The whole document."""
    kinds: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        *((kind, "validation") for kind in _REQUEST_MODELS),
        *((kind, "serialization") for kind in _RESPONSE_MODELS),
    ]
    _, found = models_json_schema(kinds, ref_template=_REF)
    components = found["$defs"]
    components["RequestRow"]["properties"]["asr_text"]["maxLength"] = settings.longest_text
    components["BatchRequest"]["properties"]["rows"]["maxItems"] = settings.most_rows
    faults = {str(status): _response(said, schemas.ErrorAnswer) for status, said in ERROR_STATUSES.items()}
    unready = _response("loading or failed", schemas.HealthAnswer)
    common = {status: faults[status] for status in ("401", "421")}
    propose = {
        "operationId": "propose",
        "summary": "Propose a correction for each row, and decide on it.",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"anyOf": _refs(*_REQUEST_MODELS)}}},
        },
        "responses": {
            "200": _response("a decision, a rejecting one too", schemas.RowAnswer, schemas.BatchAnswer),
            **faults,
        },
    }
    health = {
        "operationId": "health",
        "summary": "What the service is, and whether it can answer.",
        "responses": {"200": _response("it can", schemas.HealthAnswer), "503": unready, **common},
    }
    document = {
        "operationId": "openapi",
        "summary": "This document.",
        "responses": {
            "200": {"description": "it", "content": {"application/json": {"schema": {"type": "object"}}}},
            **common,
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Thunder Train bridge", "version": __version__},
        "paths": {"/health": {"get": health}, "/propose": {"post": propose}, "/openapi.json": {"get": document}},
        "components": {"schemas": components, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        **({"security": [{"bearer": []}]} if settings.bearer_file else {}),
    }


def _refs(*kinds: type[BaseModel]) -> list[dict[str, str]]:
    return [{"$ref": _REF.format(model=kind.__name__)} for kind in kinds]


def _response(said: str, *kinds: type[BaseModel]) -> dict[str, Any]:
    references = _refs(*kinds)
    schema = references[0] if len(references) == 1 else {"anyOf": references}
    return {"description": said, "content": {"application/json": {"schema": schema}}}
