"""Rows and settings of a short LoRA run whose frozen parts are cached."""

from __future__ import annotations

ROWS, STEPS = 17, 12

OPTIONS = {"num_layers": 2, "lora_rank": 4, "batch_size": 3, "learning_rate": 1e-3, "iters": STEPS, "lora_dropout": 0.1}
