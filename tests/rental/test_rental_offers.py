"""Offers of rented machines: the search, the choice within the budget, and the script that a machine starts."""

from __future__ import annotations

import pytest

from thunder.errors import GateError
from thunder.rental import rental_offers
from thunder.rental.rental_offers import RentalOrder, RentalSettings
from thunder.rental.vastai import Offer


def test_what_is_asked_for_and_done():
    assert rental_offers.offer_query(RentalSettings()) == (
        "gpu_name=A100 num_gpus=1 inet_down>500 disk_space>500 reliability>0.98 rentable=true"
    )
    made = RentalOrder("r", "l", ["a", "b c"], 1.5, 1.0, "i", 1)
    assert "timeout 5400 a 'b c' > /workspace/runs/job.out" in rental_offers.onstart_script(made)
    offers = [Offer(1, "A100", 1, 0.5, 1, 1, 1), Offer(2, "A100", 1, 0.4, 1, 1, 1), Offer(3, "A100", 4, 0.1, 1, 1, 1)]
    assert rental_offers.choose_offer(offers, made, 0.4).id == 2, "0.60 of the 0.60 that are left"
    with pytest.raises(GateError):
        rental_offers.choose_offer(offers, made, 0.41)
    with pytest.raises(GateError, match="no machine"):
        rental_offers.choose_offer(offers[2:], made, 0)
