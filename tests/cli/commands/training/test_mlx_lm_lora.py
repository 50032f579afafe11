"""A line of mlx_lm.lora behind `thunder`: it trains, and what is another command here is named."""

from __future__ import annotations

import json
import shlex

import pytest
from conftest import REPOSITORY

from thunder.cli.main import main


def test_a_line_that_only_tests_names_the_command_that_does(capsys):
    assert main(["mlx_lm.lora", "--test", "--data", "some", "--adapter-path", "mine"]) == 2
    assert "./launch.sh eval --model MODEL --adapter-path mine --rows some/test.jsonl" in capsys.readouterr().err


@pytest.mark.expensive
def test_a_pasted_line_trains(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("THUNDER_STATE", str(tmp_path / "state"))
    line = f"mlx_lm.lora --model {REPOSITORY}/data/models/tiny-gemma4-nko --train --data {REPOSITORY}/data/sample "
    line += "--fine-tune-type lora --optimizer adam --num-layers 4 --batch-size 2 --iters 2 --val-batches 4 --test "
    line += f"--test-batches 2 --learning-rate 1e-4 --adapter-path {tmp_path}/adapters --report-to wandb --mask-prompt"
    assert main([*shlex.split(line), "--ranks", "1", "--json"]) == 0, capsys.readouterr().err
    results = json.loads(capsys.readouterr().out)
    assert results["steps"] == 2 and results["test"]["rows"] == 4
    assert (tmp_path / "adapters" / "adapters.safetensors").is_file()
