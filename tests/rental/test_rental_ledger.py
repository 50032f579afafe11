"""The ledger of rentals: open ones, the money that they cost, and lines that cannot be read."""

from __future__ import annotations

import json

import pytest

from thunder.errors import ArtifactError
from thunder.rental.rental_ledger import LEDGER_FILE, RentalLedger


def test_rentals_cost_from_the_order_to_the_release_or_to_now(tmp_path):
    now = [1_000_000.0]
    ledger = RentalLedger(tmp_path / "runs", lambda: now[0])
    assert ledger.rentals() == {} and ledger.spent_usd() == 0
    ledger.note("ordered", "a.one-1", usd_per_hour=0.5, instance=7)
    now[0] += 3600
    ledger.note("destroyed", "a.one-1")
    ledger.note("ordered", "a.two-1", usd_per_hour=2.0)
    ledger.note("created", "b.one-1", usd_per_hour=9.0)  # without an order
    now[0] += 1800
    assert set(ledger.open_rentals()) == {"a.two-1", "b.one-1"}
    assert ledger.spent_usd() == pytest.approx(0.5 + 1.0)
    assert ledger.spent_usd("a.one") == pytest.approx(0.5) and ledger.spent_usd("b") == 0
    rental = RentalLedger(tmp_path / "runs").rentals()["a.one-1"]
    assert (rental["instance"], rental["destroyed"] - rental["ordered"]) == (7, 3600)


def test_each_event_is_a_line(tmp_path):
    ledger = RentalLedger(tmp_path, lambda: 5.0)
    ledger.note("ordered", "x")
    ledger.note("created", "x", instance=3)
    assert [json.loads(line) for line in (tmp_path / LEDGER_FILE).read_text().splitlines()] == [
        {"time": 5.0, "event": "ordered", "label": "x"},
        {"time": 5.0, "event": "created", "label": "x", "instance": 3},
    ]


@pytest.mark.parametrize("line", ["{", "[]", '{"event": "ordered", "time": 1}', '{"label": "x", "event": "ordered"}'])
def test_a_line_that_cannot_be_read_is_named(tmp_path, line):
    RentalLedger(tmp_path, lambda: 1.0).note("ordered", "x")
    with (tmp_path / LEDGER_FILE).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(ArtifactError, match=f"{LEDGER_FILE}:2: not a ledger line"):
        RentalLedger(tmp_path).spent_usd()
