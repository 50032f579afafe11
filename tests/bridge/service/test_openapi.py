"""The OpenAPI document: derived from the routes and the schemas, and complete."""

from __future__ import annotations

import pytest
from starlette.routing import Route

from thunder.bridge import schemas
from thunder.bridge.bridge_settings import ServeSettings
from thunder.bridge.service.openapi import ERROR_STATUSES, openapi_document


async def health(request):
    """Report the state.

    More.
    """


async def propose(request):
    """Propose and decide."""


ROUTES = [Route("/health", health, methods=["GET"]), Route("/propose", propose, methods=["POST"])]


def test_operations_come_from_the_routes():
    document = openapi_document(ROUTES, ServeSettings())
    assert {path: list(operations) for path, operations in document["paths"].items()} == {
        "/health": ["get"],
        "/propose": ["post"],
    }
    operation = document["paths"]["/health"]["get"]
    assert (operation["operationId"], operation["summary"]) == ("health", "Report the state.")
    assert set(document["paths"]["/propose"]["post"]["responses"]) == {"200", *map(str, ERROR_STATUSES)}


def test_schemas_come_from_the_models_with_the_limits_of_the_service():
    found = openapi_document(ROUTES, ServeSettings(longest_text=7, most_rows=3))["components"]["schemas"]
    assert found["RequestRow"]["properties"]["asr_text"]["maxLength"] == 7
    assert found["BatchRequest"]["properties"]["rows"]["maxItems"] == 3
    assert set(found["RowDecision"]["properties"]) == set(schemas.RowDecision.model_fields)


def test_a_token_is_part_of_the_document_where_one_is_required():
    assert "security" not in openapi_document(ROUTES, ServeSettings())
    assert openapi_document(ROUTES, ServeSettings(bearer_file="b"))["security"] == [{"bearer": []}]


def test_a_route_without_a_description_is_an_error():
    with pytest.raises(KeyError, match="/new"):
        openapi_document([*ROUTES, Route("/new", health)], ServeSettings())
