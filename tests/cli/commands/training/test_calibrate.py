"""`thunder calibrate`: measured figures are kept, and `thunder shapes` uses them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from shapes_command import said

from thunder.cli.commands.training import shapes as command
from thunder.cli.main import main
from thunder.runs.records import environment
from thunder.training.shapes import calibration, chips, shape_safety


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.mark.expensive
def test_calibrate_keeps_what_it_measured_and_shapes_uses_it(capsys, state, monkeypatch):
    assert main(["calibrate", "--dry-run"]) == 0
    assert str(state / chips.CHIPS_FILE) in capsys.readouterr().out and not state.exists()
    kinds = ("float32", "reduced", "quantised", "attention", "bandwidth")
    fake = [calibration.RateMeasurement(kind, "a size", 2e9, 0.1) for kind in kinds]
    monkeypatch.setattr(calibration, "measure_rates", lambda: iter(fake))
    assert main(["calibrate", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["name"] == environment.chip_name() and told["float32"] == 2e9 and "mlx" in told["versions"]
    kept = chips.known_chips(chips.read_measured_chips(state))[environment.chip_name()]
    assert kept.reduced == 2e9 and kept.source.startswith("measured on 20")
    told = json.loads(said(capsys, "--json"))
    assert told["chip"]["name"] == environment.chip_name() and told["memory"] > 1e9
    seconds = {(s["batch_size"], s["num_layers"], s["max_seq_length"]): s["step_seconds"] for s in told["shapes"]}
    asked = shape_safety.shape_verdict(shape_safety.E2B, command.TrainingShape(1, 4, 256), replace(kept))
    assert seconds[1, 4, 256] == asked.step_seconds > 100
