"""`thunder shapes` and `thunder calibrate`: the table, its JSON, and figures that take the published ones' place."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from thunder.cli.commands.training import shapes as command
from thunder.cli.main import main
from thunder.lora.lora_settings import EMBEDDED_MODEL
from thunder.runs.records import environment
from thunder.training.shapes import calibration, chips, shape_safety


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def said(capsys, *words):
    assert main(["shapes", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.expensive
def test_the_table_has_the_known_pair_on_its_sides(capsys):
    told = json.loads(said(capsys, "--chip", "M4", "--memory-gb", "16", "--json"))
    found = {(s["batch_size"], s["num_layers"], s["max_seq_length"]): s["verdict"] for s in told["shapes"]}
    assert found[1, 4, 256] == "safe" and found[2, 8, 512] == "unsafe" and found[1, 4, 512] == "likely"
    assert told["chip"]["source"] == chips.PUBLISHED and told["memory"] == 16 * 2**30
    lines = said(capsys, "--chip", "Apple M4", "--memory-gb", "16").splitlines()
    assert lines[0].startswith("gemma-4-e2b on Apple M4, 16 GiB of memory (published, not measured)")
    assert len(lines) == 2 + len(command.BATCHES) * (len(command.LAYERS) + 1)
    (row,) = [line for line in lines if line.split()[:2] == ["1", "4"]]
    assert [word for word in row.split() if word in shape_safety.SAFETY_LEVELS] == ["safe"] * 2 + ["likely"] + [
        "unsafe"
    ] * 2


def test_a_model_of_ones_own_and_a_machine_without_figures(capsys):
    told = json.loads(said(capsys, "--model", str(EMBEDDED_MODEL), "--json"))
    assert told["model"] == str(EMBEDDED_MODEL) and "unsafe" not in {s["verdict"] for s in told["shapes"]}
    assert {s["verdict"] for s in told["shapes"] if s["max_seq_length"] <= 512} == {"safe"}
    assert {s["num_layers"] for s in told["shapes"]} == {1, 4, 8}
    assert told["chip"]["name"] in ("Apple M4", environment.chip_name())


def test_what_cannot_be_is_said_with_the_way_out(capsys, tmp_path):
    assert main(["shapes", "--chip", "M44"]) == 2
    assert "thunder calibrate" in capsys.readouterr().err
    assert main(["shapes", "--way", "fast"]) == 2
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    assert main(["shapes", "--model", str(tmp_path)]) == 2
    assert "does not say enough" in capsys.readouterr().err


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
