"""LoRA training of a few rows on real ranks, and what a finished one left."""

from __future__ import annotations

import json

import mlx.core as mx
import numpy as np

from thunder.lora.lora_settings import EMBEDDED_DATA, EMBEDDED_MODEL

TRAIN = """
import json, sys
from pathlib import Path
import mlx.core as mx
from mlx.utils import tree_flatten
from thunder.config import SettingsLayer, build_settings
from thunder.corpora.rows import chat_rows
from thunder.lora import base_model, tokenized_rows
from thunder.lora.lora_settings import EMBEDDED_DATA, EMBEDDED_MODEL, LoraSettings
from thunder.lora.prompts.load_prompts import load_prompt_format
from thunder.lora.lora_task import LoraTask
from thunder.parallel import world
from thunder.runs.records.run_record import RunRecord
from thunder.training import faults
from thunder.training.loop import train_loop
from thunder.training.loop_settings import RuntimeOverrides
from thunder.training.train_context import TrainContext
from thunder.training.training_events import CallbackList

base, data, out, options = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
how = json.loads(sys.argv[5])
hosts, fault = how.pop("hosts", False), how.pop("fault", "")
ring = world.join_world()
# with `hosts`, each rank is the first on a host of its own, with a disk of its own
record = RunRecord(out / f"host{ring.rank}" if hosts else out, ring.is_main, is_primary=hosts or ring.is_main)
injector = faults.FaultInjector(faults.parse_faults(fault), record, ring.rank, ring)
record.log = lambda text: print(text, flush=True)
overrides = RuntimeOverrides(**how)
settings, _ = build_settings(LoraSettings, [SettingsLayer("test", options)])
tokenizer = load_prompt_format(base)
encoded = tokenized_rows.encode_rows(chat_rows.read_rows(data).rows, tokenizer, settings.max_seq_length)
model, for_task = base_model.load_base_model(base), overrides.for_task(settings)
task = LoraTask(model, for_task, encoded.examples[:-6], encoded.examples[-6:])
callbacks = CallbackList([injector])
state = train_loop(TrainContext(task, settings, ring, record, {"data": "same"}, overrides, callbacks=callbacks))
if not ring.is_main:
    weights = dict(tree_flatten(task.model.trainable_parameters()))
    mx.save_safetensors(str(out.parent / f"{out.name}-rank{ring.rank}.safetensors"), weights)
"""
OPTIONS = {
    "iters": 12,
    "learning_rate": 1e-4,
    "warmup": 10,
    "num_layers": 4,
    "lora_rank": 8,
    "steps_per_report": 1,
    "steps_per_eval": 5,
    "save_every": 6,
    "seed": 5,
}


def run_training(run_ranks, tmp_path, ranks, name, base=EMBEDDED_MODEL, how=None, **changes):
    """Train on 19 rows; returns each rank's (code, output). how: hosts, fault, and what RuntimeOverrides takes.

    With the shipped model and its sample rows, and a warm-up: Adam turns a first gradient into its sign, so that
    at a high rate rounding alone would set two runs apart within a few steps (docs/benchmarks.md has figures).
    """
    sample = (EMBEDDED_DATA / "train.jsonl").read_text(encoding="utf-8").splitlines()[:25]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(sample) + "\n", encoding="utf-8")
    return run_ranks(
        ranks, TRAIN, str(base), str(data), str(tmp_path / name), json.dumps(OPTIONS | changes), json.dumps(how or {})
    )


def trained(run_ranks, tmp_path, ranks, name, base=EMBEDDED_MODEL, how=None, **changes):
    """Train to the end; returns (losses per step, validation losses, adapter arrays, adapter bytes)."""
    results = run_training(run_ranks, tmp_path, ranks, name, base, how, **changes)
    out = tmp_path / name
    assert [code for code, _ in results] == [0] * ranks, results
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    path = out / "adapters" / "adapters.safetensors"
    arrays = {key: np.array(value) for key, value in mx.load(str(path)).items()}
    losses = [row["loss"] for row in metrics if "loss" in row]
    return losses, [row["valid_loss"] for row in metrics if "valid_loss" in row], arrays, path.read_bytes()


def largest_difference(a, b):
    assert a.keys() == b.keys()
    return max(float(np.abs(a[key] - b[key]).max()) for key in a)
