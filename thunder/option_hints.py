"""Hints for unknown options: by meaning first, from the names that other trainers use, then by spelling."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SYNONYMS: dict[str, tuple[str, ...]] = {
    "adam_beta1": ("adam_betas",),
    "adam_beta2": ("adam_betas",),
    "alpha": ("lora_scale",),
    "base": ("model",),
    "base_model": ("model",),
    "block_size": ("max_seq_length",),
    "checkpoint": ("resume",),
    "clip": ("max_grad_norm",),
    "context_length": ("max_seq_length",),
    "cutoff_len": ("max_seq_length",),
    "dataset": ("data", "train_data"),
    "devices": ("ranks",),
    "early_stopping_patience": ("patience",),
    "epochs": ("iters",),
    "eval_data": ("valid_data",),
    "eval_file": ("valid_data",),
    "eval_steps": ("steps_per_eval",),
    "gpus": ("ranks",),
    "grad_clip": ("max_grad_norm",),
    "gradient_checkpointing": ("grad_checkpoint",),
    "gradient_clipping": ("max_grad_norm",),
    "hostfile": ("cluster",),
    "hosts": ("cluster",),
    "input": ("rows", "train_data"),
    "lang": ("script",),
    "layers": ("num_layers",),
    "learning_rate_schedule": ("lr_scheduler_type",),
    "logging_steps": ("steps_per_report",),
    "lora_alpha": ("lora_scale",),
    "lora_r": ("lora_rank",),
    "lora_target_modules": ("lora_keys",),
    "max_length": ("max_seq_length",),
    "max_norm": ("max_grad_norm",),
    "max_samples": ("limit",),
    "model_name_or_path": ("model",),
    "n_epochs": ("epochs", "iters"),
    "name": ("run_name",),
    "nproc": ("ranks",),
    "num_epochs": ("iters",),
    "num_gpus": ("ranks",),
    "num_train_epochs": ("iters",),
    "num_workers": ("ranks",),
    "output": ("out", "adapter_path"),
    "output_dir": ("out", "adapter_path"),
    "per_device_train_batch_size": ("batch_size",),
    "random_seed": ("seed",),
    "resume_from_checkpoint": ("resume",),
    "save_steps": ("save_every",),
    "steps": ("iters",),
    "target_modules": ("lora_keys",),
    "test_file": ("test_data",),
    "test_size": ("holdout",),
    "train": ("train_data",),
    "train_file": ("train_data",),
    "val_data": ("valid_data",),
    "val_set_size": ("holdout",),
    "val_size": ("holdout",),
    "validation_file": ("valid_data",),
    "validation_split": ("holdout",),
    "wandb": ("report_to",),
    "warmup_ratio": ("warmup",),
    "world_size": ("ranks",),
}
"""Name elsewhere -> the options here that mean it; the first that a command has is the hint."""
CLOSE = 0.7  # difflib's ratio; below it the resemblance is chance, as of `epochs` and `hypothesis`


def best_hint(name: str, known: Iterable[str]) -> str:
    """The option that an unknown name most likely means, as `known` spells it; empty where none does.

    Dashes at the start and between words do not count.
    """
    options = {_bare(option): option for option in known}
    for meant in SYNONYMS.get(_bare(name), ()):
        if meant in options:
            return options[meant]
    close = difflib.get_close_matches(_bare(name), list(options), n=1, cutoff=CLOSE)
    if not close:  # one letter for another in a name of three
        as_long = [option for option in options if len(option) == len(_bare(name))]
        close = difflib.get_close_matches(_bare(name), as_long, n=1, cutoff=0.66)
    return options[close[0]] if close else ""


def _bare(name: str) -> str:
    return name.lstrip("-").replace("-", "_").lower()
