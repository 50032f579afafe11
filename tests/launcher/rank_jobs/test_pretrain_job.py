"""The rank's job of pretraining: a tiny base model from open text, copied where the options say."""

from __future__ import annotations

import json

import pytest
from conftest import tokenizer_text

from thunder.launcher.in_process import run_in_process
from thunder.launcher.job_console import SilentConsole
from thunder.launcher.job_kinds import plan_pretrain

pytestmark = pytest.mark.expensive
SIZES = {
    "vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 4, "num_kv_shared_layers": 2, "intermediate_size": 48,
    "num_attention_heads": 2, "head_dim": 16, "global_head_dim": 16, "hidden_size_per_layer_input": 8,
    "sliding_window": 16, "sliding_window_pattern": 2,
}  # fmt: skip


def test_a_short_run_leaves_a_model_of_the_sizes_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    lines = dict.fromkeys(line.replace("\t", " ").strip() for line in tokenizer_text())
    (tmp_path / "open.tsv").write_text("nqo\n" + "".join(f"{line}\n" for line in lines if line), encoding="utf-8")
    options = SIZES | {
        "ranks": 1, "iters": 2, "text_root": str(tmp_path), "text": ["open.tsv"], "heldout": 0.1, "batch_size": 2,
        "out": str(tmp_path / "base"), "max_seq_length": 64, "steps_per_report": 1,
    }  # fmt: skip
    planned = plan_pretrain(options, None, SilentConsole(), "test")
    results = run_in_process(planned, SilentConsole())
    assert results["steps"] == 2 and results["wraps"] > 0
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    config = config.get("text_config", config)
    assert (config["hidden_size"], config["num_hidden_layers"]) == (32, 4)
    losses = [json.loads(line).get("loss") for line in (planned.folder / "metrics.jsonl").read_text().splitlines()]
    assert len([loss for loss in losses if loss is not None and loss > 0]) == 2
