"""A small adapter, as a LoRA task saves it."""

from __future__ import annotations

import mlx.core as mx
from conftest import make_rows, write_rows

from thunder.corpora.rows import chat_rows as corpus_rows
from thunder.lora import base_model, tokenized_rows
from thunder.lora.lora_settings import LoraSettings
from thunder.lora.lora_task import LoraTask
from thunder.lora.prompts.load_prompts import load_prompt_format


def train_adapter(tiny_model, tmp_path):
    """An adapter folder with weights that matter, the task it came from, and the whole model that it is on."""
    rows = corpus_rows.read_rows(write_rows(tmp_path / "rows.jsonl", make_rows(4))).rows
    settings = LoraSettings(num_layers=2, lora_rank=4, lora_scale=10.0)
    whole = base_model.load_base_model(tiny_model)
    task = LoraTask(whole, settings, tokenized_rows.encode_rows(rows, load_prompt_format(tiny_model), 128).examples)
    mx.random.seed(2)
    for _, module in task.model.named_modules():
        if hasattr(module, "lora_b"):
            module.lora_b = mx.random.normal(module.lora_b.shape) * 0.3
    task.save(tmp_path / "adapters")
    return tmp_path / "adapters", task, whole
