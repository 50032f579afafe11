"""Checks of an adapter's folder: whole, trained, of the base that is named, and equal to what was recorded."""

from __future__ import annotations

import json

import numpy as np
import pytest
from planted_runs import write_tensors

from thunder import digest, tensor_digests
from thunder.lora import adapter_check
from thunder.lora.adapter_files import CONFIG, WEIGHTS

BASE = "b" * 64


@pytest.fixture
def make_adapter(tmp_path):
    """Writes an adapter by hand; returns its folder."""

    def make(b=1.0, trained_on=BASE, names=("a.lora_a", "a.lora_b", "c.lora_b")):
        folder = tmp_path / "adapters"
        folder.mkdir(exist_ok=True)
        arrays = {name: np.full((2, 3), b if name.endswith("lora_b") else 1.0, np.float32) for name in names}
        write_tensors(folder / WEIGHTS, arrays)
        metadata = {"thunder": {"base_sha256": trained_on}} if trained_on else {}
        (folder / CONFIG).write_text(json.dumps({"num_layers": 2, "lora_parameters": {"rank": 2}} | metadata))
        return folder

    return make


def states(checks):
    return {check.what: check.state for check in checks}


def details(checks):
    return {check.what: check.detail for check in checks}


def test_a_whole_adapter_of_the_named_base(make_adapter):
    folder = make_adapter()
    recorded, sha256 = tensor_digests.file_tensor_digests(folder / WEIGHTS), digest.sha256_file(folder / WEIGHTS)
    checks = adapter_check.check_adapter(folder, BASE, recorded, sha256)
    assert states(checks) == {
        "whole": "ok", "digests": "ok", "finite": "ok", "trained": "ok", "base": "ok", "answers": "skipped"
    }  # fmt: skip
    assert details(checks)["trained"] == "2 of 2 tensors *.lora_b are not 0"


def test_an_adapter_whose_b_is_all_0_changes_nothing(make_adapter):
    checks = adapter_check.check_adapter(make_adapter(b=0.0))
    assert states(checks)["trained"] == "fault"
    assert details(checks)["trained"] == "all 2 tensors *.lora_b are 0: it changes nothing"
    without = adapter_check.check_adapter(make_adapter(names=("a.lora_a",)))
    assert states(without)["trained"] == "skipped" and details(without)["trained"] == "it has no tensor *.lora_b"


@pytest.mark.parametrize(
    ("trained_on", "base", "state", "detail"),
    [
        (BASE, BASE, "ok", "b" * 12),
        (BASE, None, "skipped", "no base is named: --base FOLDER"),
        (None, BASE, "skipped", "the adapter does not say what it was trained on"),
        ("e" * 64, BASE, "fault", f"of another base: trained on {'e' * 12}, not on {'b' * 12}"),
    ],
)
def test_the_base_that_it_was_trained_on(make_adapter, trained_on, base, state, detail):
    checks = adapter_check.check_adapter(make_adapter(trained_on=trained_on), base)
    assert (states(checks)["base"], details(checks)["base"]) == (state, detail)


def test_a_folder_that_is_no_adapter_is_one_fault(make_adapter):
    folder = make_adapter()
    (folder / CONFIG).write_text("{")
    (check,) = adapter_check.check_adapter(folder, BASE)
    assert (check.what, check.state) == ("adapter", "fault") and CONFIG in check.detail


def test_truncated_weights_are_a_fault_and_not_asked_whether_they_are_trained(make_adapter):
    folder = make_adapter()
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    checks = adapter_check.check_adapter(folder, BASE)
    assert states(checks)["whole"] == "fault" and "trained" not in states(checks) and states(checks)["base"] == "ok"


def test_weights_other_than_recorded_are_a_fault(make_adapter):
    recorded = tensor_digests.file_tensor_digests(make_adapter() / WEIGHTS)
    checks = adapter_check.check_adapter(make_adapter(b=2.0), BASE, recorded)
    assert states(checks)["digests"] == "fault" and "a.lora_b" in details(checks)["digests"]
