"""`thunder shapes`: the table and its JSON."""

from __future__ import annotations

import json

import pytest
from shapes_command import said

from thunder.cli.commands.training import shapes as command
from thunder.cli.main import main
from thunder.lora.lora_settings import EMBEDDED_MODEL
from thunder.runs.records import environment
from thunder.training.shapes import chips, shape_safety


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


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
    assert " calibrate` on that machine" in capsys.readouterr().err
    assert main(["shapes", "--way", "fast"]) == 2
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    assert main(["shapes", "--model", str(tmp_path)]) == 2
    assert "does not say enough" in capsys.readouterr().err
