"""Calls of the rental service's program: their words, their answers, and answers that are none."""

from __future__ import annotations

import json

import pytest

from thunder.errors import UsageError
from thunder.rental.vastai import Instance, Offer, RentalError, VastClient

KEY = "secret-0123456789abcdef"
OFFER = {"id": 7, "gpu_name": "A100", "dph_total": 0.9, "reliability2": 0.99, "disk_space": 900, "inet_down": 600}


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A client of a program that writes down its words and answers with the content of a file."""
    program = tmp_path / "bin" / "vastai"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >> "{tmp_path}/words"\ncat "{tmp_path}/answer"\n'
        f'[ ! -e "{tmp_path}/fails" ] || {{ cat "{tmp_path}/fails" >&2; exit 1; }}\n'
    )
    program.chmod(0o755)
    path = f"{program.parent}:/usr/bin:/bin"
    monkeypatch.setenv("PATH", path)
    (tmp_path / "answer").write_text("")
    return VastClient({"VAST_API_KEY": KEY, "PATH": path})


def test_without_a_key_nothing_is_asked():
    with pytest.raises(UsageError, match="VAST_API_KEY is not set"):
        VastClient({})


def test_offers_are_sorted_by_price(client, tmp_path):
    cheap = {"id": "8", "gpu_name": "A100", "num_gpus": 2, "dph_total": "0.5", "reliability": 0.9}
    (tmp_path / "answer").write_text(json.dumps([OFFER, cheap]))
    assert client.offers("gpu_name=A100") == [
        Offer(8, "A100", 2, 0.5, 0.9, 0.0, 0.0), Offer(7, "A100", 1, 0.9, 0.99, 900.0, 600.0)
    ]  # fmt: skip
    assert (tmp_path / "words").read_text().startswith("search offers gpu_name=A100 --order dph_total --raw")


@pytest.mark.parametrize("answer", ["{}", "<html>", json.dumps([{"id": 7}]), json.dumps([OFFER | {"dph_total": "x"}])])
def test_offers_that_are_none(client, tmp_path, answer):
    (tmp_path / "answer").write_text(answer)
    with pytest.raises(RentalError):
        client.offers("x")


@pytest.mark.parametrize("answer", [{"success": False}, {"success": True}, {"success": True, "new_contract": "5"}, []])
def test_a_machine_counts_as_rented_only_with_its_number(client, tmp_path, answer):
    (tmp_path / "answer").write_text(json.dumps(answer))
    with pytest.raises(RentalError, match="no machine was created"):
        client.create(7, "image", 10, "label", "script")
    (tmp_path / "answer").write_text(json.dumps({"success": True, "new_contract": 12}))
    assert client.create(7, "image", 10, "label", "script") == 12


def test_machines_and_whether_they_run(client, tmp_path):
    machines = [
        {"id": 1, "label": "a", "actual_status": "running", "dph_total": 0.5}, {"id": "2", "cur_state": "stopped"},
        {"id": 3, "label": None},
    ]  # fmt: skip
    (tmp_path / "answer").write_text(json.dumps(machines))
    instances = client.instances()
    assert instances == [
        Instance(1, "a", "running", 0.5), Instance(2, "", "stopped", 0.0), Instance(3, "", "created", 0.0)
    ]  # fmt: skip
    assert [instance.is_running for instance in instances] == [True, False, True]


def test_an_error_does_not_show_the_key_and_a_machine_that_is_gone_is_released(client, tmp_path):
    (tmp_path / "fails").write_text(f"error 502 for key {KEY}")
    for call in (lambda: client.stop(3), lambda: client.destroy(3)):
        with pytest.raises(RentalError) as caught:
            call()
        assert KEY not in str(caught.value) and "502" in str(caught.value)
    (tmp_path / "fails").write_text("instance 3 not found")
    client.destroy(3)
    with pytest.raises(RentalError):
        client.stop(3)
