"""Requests of the HTTP service: strict parsing, limits of the settings, and rows as cases."""

from __future__ import annotations

import json

import pytest

from thunder.bridge.bridge_settings import ServeSettings
from thunder.bridge.schemas import BadRequest, BatchRequest, RowRequest, parse_request, request_cases

SETTINGS = ServeSettings(longest_text=5, most_rows=2)


def row_json(text="ߞߊ", **more):
    return {"feat_id": "a", "asr_text": text, **more}


def test_one_row_and_several_are_told_apart_by_their_fields():
    one = parse_request(json.dumps({"row": row_json(script="nko")}).encode(), SETTINGS)
    several = parse_request(json.dumps({"rows": [row_json(), row_json("abc", feat_id="b")]}).encode(), SETTINGS)
    assert type(one) is RowRequest and type(several) is BatchRequest
    assert [(case.row_id, case.input) for case in request_cases(one)] == [("a", "ߞߊ")]
    assert [(case.row_id, case.input) for case in request_cases(several)] == [("a", "ߞߊ"), ("b", "abc")]


@pytest.mark.parametrize("body, status, field", [
    ("{", 400, None),
    ("[]", 422, None),
    ({"row": row_json(), "more": 1}, 422, "more"),
    ({"row": row_json(" ")}, 422, "row.asr_text"),
    ({"row": row_json("ߞߊߞߊߞߊ")}, 422, "row.asr_text"),  # six code points; the limit is five
    ({"rows": []}, 422, "rows"),
    ({"rows": [row_json()] * 3}, 422, "rows"),  # the limit is two
    ({"rows": [row_json(), row_json("ߞߊߞߊߞߊ")]}, 422, "rows.1.asr_text"),
    ({"row": row_json(spans=[[0, 1.5]])}, 422, "row.spans.0.1"),
    ({"row": row_json(), "options": {"deadline_ms": 99}}, 422, "options.deadline_ms"),
])  # fmt: skip
def test_a_bad_request_names_its_status_and_field(body, status, field):
    with pytest.raises(BadRequest) as caught:
        parse_request((body if isinstance(body, str) else json.dumps(body)).encode(), SETTINGS)
    assert (caught.value.status, caught.value.field) == (status, field)


def test_whole_numbers_may_be_written_as_floats():
    body = {"row": row_json(spans=[[0.0, 2.0]]), "options": {"deadline_ms": 100.0}}
    request = parse_request(json.dumps(body).encode(), SETTINGS)
    assert request.row.spans == [(0, 2)] and request.options.deadline_ms == 100
