"""The page of a run: what its files say, counted again; what is missing, cut off or contradicts is named."""

from __future__ import annotations

import json

import pytest
from conftest import write_rows
from pages import read_page, rendered
from report_runs import adapter_run_folder, read, section

from thunder.errors import UsageError
from thunder.runs.records.run_record import lock_run

adapter = pytest.fixture(adapter_run_folder)


@pytest.mark.parametrize("lost, said", [
    ("metrics.jsonl", "metrics.jsonl is missing: no loss"),
    ("config.yaml", "config.yaml is missing: its options are not shown"),
    ("results.json", "results.json is missing: the run did not come to its end"),
    ("environment.json", "environment.json is missing: the machine is not named"),
    ("test_predictions.jsonl", "test_predictions.jsonl is missing: no CER, no confusions and no rows"),
])  # fmt: skip
def test_what_is_missing_is_named(adapter, lost, said):
    (adapter / lost).unlink()
    page = read(adapter)
    assert len(page.absent) == 1 and said in page.absent[0]
    read_page(rendered(page))


@pytest.mark.parametrize("name, text, said", [
    ("metrics.jsonl", '{"step": 1, "loss": 2.0}\n{"step"', "metrics.jsonl:2: looks cut off"),
    ("metrics.jsonl", "[]\n", "metrics.jsonl:1: not an object"),
    ("results.json", "{", "results.json is not JSON"), ("results.json", "[]", "results.json is not a JSON object"),
    ("config.yaml", "a: [", "its options are not shown"),
    ("test_predictions.jsonl", '{"prediction_after": 3}\n', "1 of 1 rows lack a text"),
    ("results.json", '{"test": {"cer_after": 0.5}}', "results.json has test.cer_after 0.5000, but the rows give"),
])  # fmt: skip
def test_what_is_damaged_is_named(adapter, name, text, said):
    (adapter / name).write_text(text)
    page = read(adapter)
    assert said in " | ".join(page.absent)
    read_page(rendered(page))


def test_why_a_run_ended_is_told(adapter):
    (adapter / "results.json").unlink()
    (adapter / "end.json").write_text(json.dumps({"state": "failed", "message": "the cable\nmore"}))
    assert read(adapter).absent[0].endswith("(failed: the cable)")


def test_a_run_that_goes_on_is_not_called_ended(adapter):
    (adapter / "results.json").unlink()
    with lock_run(adapter):
        assert read(adapter).absent == ["results.json is missing: the run is going on"]


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UsageError, match="no run"):
        read(tmp_path)


def test_restarts_are_told(adapter):
    write_rows(adapter / "incidents.jsonl", [{"time": 2.5, "kind": "hang", "step": 5, "checkpoint": 0}])
    page = read(adapter)
    assert ("1", "restart") in page.cards
    assert ["restart 1", "5", "hang; went on from step 0"] in section(page, "loss").table.lines
