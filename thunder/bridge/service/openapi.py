"""The OpenAPI document of the service, derived from its routes and its schemas."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.routing import Route
from starlette.schemas import EndpointInfo, SchemaGenerator

from thunder.bridge import schemas
from thunder.bridge.bridge_settings import ServeSettings
from thunder.version import __version__

_REF = "#/components/schemas/{model}"
_REQUEST_MODELS = (schemas.RowRequest, schemas.BatchRequest)
_RESPONSE_MODELS = (schemas.RowAnswer, schemas.BatchAnswer, schemas.HealthAnswer, schemas.ErrorAnswer)
ERROR_STATUSES = {
    400: "the body is not JSON",
    401: "no bearer token, or a wrong one",
    408: "the body did not arrive in time",
    413: "the body is too large",
    415: "the body is not application/json",
    421: "the host named is not this one",
    422: "a field is missing, of the wrong kind, empty or too long",
    429: "the queue is full; Retry-After says when to ask again",
    500: "the engine failed on these rows",
    503: "the model is not loaded, or the decision could not be recorded",
    504: "the deadline has passed",
}
_COMMON_STATUSES = (401, 421)


def openapi_document(routes: Sequence[Route], settings: ServeSettings) -> dict[str, Any]:
    """The document: an operation for each route, with the name of the route and the summary of its endpoint.

    Raises KeyError for a route whose requests and answers are not described here.
    """
    components = _component_schemas(settings)
    generator = SchemaGenerator(
        {
            "openapi": "3.1.0",
            "info": {"title": "Thunder Train bridge", "version": __version__},
            "paths": {},
            "components": {"schemas": components, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
            **({"security": [{"bearer": []}]} if settings.bearer_file else {}),
        }
    )
    bodies = {
        "/health": {"responses": _health_responses()},
        "/propose": {"requestBody": _propose_body(), "responses": _propose_responses()},
        "/openapi.json": {"responses": _document_responses()},
    }
    names = {route.path: route.name for route in routes}
    paths: dict[str, Any] = {}
    for endpoint in generator.get_endpoints(list(routes)):
        operation = {"operationId": names[endpoint.path], "summary": _summary(endpoint), **bodies[endpoint.path]}
        paths.setdefault(endpoint.path, {})[endpoint.http_method] = operation
    return generator.base_schema | {"paths": paths}


def _component_schemas(settings: ServeSettings) -> dict[str, Any]:
    """JSON schemas of the requests and answers, with this service's limits."""
    kinds: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        *((kind, "validation") for kind in _REQUEST_MODELS),
        *((kind, "serialization") for kind in _RESPONSE_MODELS),
    ]
    _, document = models_json_schema(kinds, ref_template=_REF)
    components = document["$defs"]
    components[schemas.RequestRow.__name__]["properties"]["asr_text"]["maxLength"] = settings.longest_text
    components[schemas.BatchRequest.__name__]["properties"]["rows"]["maxItems"] = settings.most_rows
    return components


def _summary(endpoint: EndpointInfo) -> str:
    """The first line of the docstring of an endpoint."""
    documentation = inspect.getdoc(endpoint.func)
    assert documentation
    return documentation.splitlines()[0]


def _health_responses() -> dict[str, Any]:
    common = {str(status): _error_response(status) for status in _COMMON_STATUSES}
    return {
        "200": _response("the service can answer", schemas.HealthAnswer),
        "503": _response("the model is loading, or could not be loaded", schemas.HealthAnswer),
        **common,
    }


def _propose_body() -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": {"anyOf": _references(*_REQUEST_MODELS)}}}}


def _propose_responses() -> dict[str, Any]:
    errors = {str(status): _error_response(status) for status in ERROR_STATUSES}
    return {"200": _response("a decision: accept, reject or keep", schemas.RowAnswer, schemas.BatchAnswer), **errors}


def _document_responses() -> dict[str, Any]:
    common = {str(status): _error_response(status) for status in _COMMON_STATUSES}
    document = {"description": "this document", "content": {"application/json": {"schema": {"type": "object"}}}}
    return {"200": document, **common}


def _error_response(status: int) -> dict[str, Any]:
    return _response(ERROR_STATUSES[status], schemas.ErrorAnswer)


def _references(*kinds: type[BaseModel]) -> list[dict[str, str]]:
    return [{"$ref": _REF.format(model=kind.__name__)} for kind in kinds]


def _response(description: str, *kinds: type[BaseModel]) -> dict[str, Any]:
    references = _references(*kinds)
    schema = references[0] if len(references) == 1 else {"anyOf": references}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
