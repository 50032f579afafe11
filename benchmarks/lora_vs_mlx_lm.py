"""Compare a LoRA training step of Thunder Train with mlx_lm's own, on the same rows with the same losses.

    .venv/bin/python benchmarks/lora_vs_mlx_lm.py [--rows 48] [--layers 4] [--model gemma3n] [--json]

`mlx_lm.tuner.trainer.train` runs unchanged (without its progress bar) over batches that this script gives it; before
each of its steps Thunder Train does a step on the same rows. Both start from the same weights and LoRA matrices, with
AdamW at one rate. mlx_lm's lengths are one less, since its mask supervises one target too many after a padded row.
The model is a small gemma4_text (35 layers, 20 of them KV-shared, hidden size 128, vocabulary 21,824, random weights,
float32). The script makes the rows: a system prompt of 26 tokens, 34 to 94 more prompt tokens and 20 to 60 of answer.

With `--model gemma3n` the model is a small gemma3n (30 layers, 10 of them KV-shared). mlx_lm shares its keys and values
only through a cache, and cannot run with LoRA on all of its matrices: there its step gets empty caches and Thunder
Train's LoRA keys.

The output, for batches of 1 and of 4: examples per CPU second (and per second of wall time), thunder / mlx-lm, in the
first epoch with the time to fill the prefix cache, in later epochs, and over five epochs; peak memory of a step,
thunder / mlx-lm, each with its own weights and optimizer, after the cache is filled; the largest difference of a step's
loss.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models import gemma3n, gemma4_text
from mlx_lm.tuner import trainer
from mlx_lm.tuner.callbacks import TrainingCallback

from thunder.cluster.inventory import openblas, rank_plan
from thunder.corpora.rows.chat_rows import ChatRow
from thunder.lora import adapters, cache_warmup, tokenized_rows
from thunder.lora.engine.full_model_engine import full_logits
from thunder.lora.lora_settings import LoraSettings
from thunder.lora.lora_task import LoraTask
from thunder.lora.tokenized_rows import Example
from thunder.parallel import row_order
from thunder.parallel.world import World
from thunder.runs.records import environment
from thunder.training.step import make_optimizer, make_step

EPOCHS, RATE, VOCABULARY, SYSTEM = 5, 1e-5, 21824, 26
CONFIG = {
    "model_type": "gemma4_text", "hidden_size": 128, "num_hidden_layers": 35, "intermediate_size": 512,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 32, "global_head_dim": 64,
    "num_kv_shared_layers": 20, "hidden_size_per_layer_input": 32, "vocab_size": VOCABULARY,
    "vocab_size_per_layer_input": VOCABULARY, "sliding_window": 512, "sliding_window_pattern": 5,
    "final_logit_softcapping": 30.0, "use_double_wide_mlp": True, "max_position_embeddings": 4096,
}  # fmt: skip

CONFIG_3N = {
    "model_type": "gemma3n_text", "hidden_size": 128, "num_hidden_layers": 30, "intermediate_size": [512] * 30,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 32, "num_kv_shared_layers": 10,
    "hidden_size_per_layer_input": 32, "vocab_size": VOCABULARY, "vocab_size_per_layer_input": VOCABULARY,
    "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 6, "sliding_window": 512, "rms_norm_eps": 1e-6,
    "rope_local_base_freq": 10000.0, "rope_theta": 1000000.0, "max_position_embeddings": 4096, "laurel_rank": 8,
    "activation_sparsity_pattern": [0.95] * 10 + [0.0] * 20, "final_logit_softcapping": 30.0, "altup_num_inputs": 4,
    "altup_active_idx": 0, "altup_coef_clip": 120.0, "altup_correct_scale": True,
}  # fmt: skip
MODELS: dict[str, Callable[[], nn.Module]] = {
    "gemma4": lambda: gemma4_text.Model(gemma4_text.ModelArgs.from_dict(CONFIG)),
    "gemma3n": lambda: gemma3n.Model(gemma3n.ModelArgs("gemma3n", CONFIG_3N)),
}


def fresh_model(kind: str) -> nn.Module:
    """The model, with the same weights at every call."""
    mx.random.seed(7)
    model = MODELS[kind]()
    mx.eval(model.parameters())
    return model


def make_examples(count: int, seed: int = 3) -> list[Example]:
    """Rows of random tokens with a heavy-tailed distribution."""
    draw = np.random.default_rng(seed)

    def tokens(number: int) -> list[int]:
        return np.minimum(300 * draw.pareto(0.9, number), VOCABULARY - 10).astype(int).tolist()

    system, examples = tokens(SYSTEM), []
    for _ in range(count):
        prompt = [*system, *tokens(int(draw.integers(34, 95)))]
        ids = [*prompt, *tokens(int(draw.integers(20, 61)))]
        examples.append(Example(np.array(ids, np.int32) + 5, len(prompt), ChatRow((), "made", "made")))
    return examples


class Measurements:
    """Measurements of one side: CPU and wall seconds of each epoch, losses of the steps, peak bytes of a step."""

    def __init__(self) -> None:
        self.cpu, self.wall = np.zeros(EPOCHS), np.zeros(EPOCHS)
        self.losses: list[float] = []
        self.peak = 0

    def begin(self) -> None:
        """Start the clocks."""
        self._begun = time.process_time(), time.perf_counter()

    def end(self, epoch: int) -> None:
        """Stop the clocks, and add the time to an epoch."""
        self.cpu[epoch] += time.process_time() - self._begun[0]
        self.wall[epoch] += time.perf_counter() - self._begun[1]

    def start_memory(self) -> None:
        """Start to measure memory."""
        mx.clear_cache()
        self._before = mx.get_active_memory()
        mx.reset_peak_memory()

    def stop_memory(self, *own: Any) -> None:
        """Record the memory above that before the step, plus this side's own arrays; the other side's are excluded."""
        held = sum(array.nbytes for tree in own for _, array in tree_flatten(tree) if isinstance(array, mx.array))
        self.peak = max(self.peak, mx.get_peak_memory() - self._before + held)


class SilentProgressBar:
    """Replaces mlx_lm's progress bar."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> SilentProgressBar:
        return self

    def __exit__(self, *_: Any) -> None: ...

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class LossRecorder(TrainingCallback):
    """Records mlx_lm's loss of every step."""

    def __init__(self, losses: list[float]) -> None:
        self.losses = losses

    def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
        self.losses.append(train_info["train_loss"])


class ThunderTraining:
    """Thunder Train's task and step, with its prefix cache in a temporary folder."""

    def __init__(self, kind: str, examples: list[Example], settings: LoraSettings, folder: Path) -> None:
        self.network = fresh_model(kind)
        self.task = LoraTask(self.network, settings, examples)
        self.optimizer = make_optimizer(settings)
        self.step = make_step(self.task, self.optimizer, settings, World())
        self.settings, self.folder = settings, folder

    def warm_up(self) -> None:
        """Compute the cache entry of every row, and drop the frozen layers."""
        cache_warmup.warm_up_cache(
            self.task, self.settings, World(), base_digest="made", ranks=1, root=self.folder,
            log=lambda text: print(f"  {text}", file=sys.stderr),
        )  # fmt: skip


def epochs(examples: list[Example], batch: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """(epoch, rows) of every step as mlx_lm makes them: sorted by length, the batches in a random order.

    A few batches follow the last epoch, the longest, to measure memory.
    """
    place = sorted(range(len(examples)), key=lambda number: len(examples[number].ids))
    whole = [tuple(place[start : start + batch]) for start in range(0, len(place) - batch + 1, batch)]
    draw = np.random.default_rng(0)
    for epoch in range(EPOCHS):
        yield from ((epoch, whole[number]) for number in draw.permutation(len(whole)))
    yield from ((EPOCHS, rows) for rows in whole[-3:])


def mlx_lm_loss(model: nn.Module, ids: mx.array, lengths: mx.array) -> tuple[mx.array, mx.array]:
    """mlx_lm's loss, of the model as it generates."""
    return trainer.default_loss(partial(full_logits, model), ids, lengths)


def measure(kind: str, examples: list[Example], batch: int, layers: int) -> dict[str, float]:
    """Run both sides over the same batches, in turns."""
    order = list(epochs(examples, batch))
    settings = LoraSettings(
        num_layers=layers, batch_size=batch, learning_rate=RATE, lr_final=1.0, max_grad_norm=0.0, iters=len(order)
    )
    mlx_lm_side, thunder_side = Measurements(), Measurements()
    model = fresh_model(kind)
    adapters.add_lora(model, settings)
    optimizer = optim.AdamW(RATE, betas=settings.adam_betas, weight_decay=settings.weight_decay)
    with tempfile.TemporaryDirectory() as folder:
        thunder_training = ThunderTraining(kind, examples, settings, Path(folder))

        def batches_in_turns(**_: Any) -> Iterator[tuple[mx.array, mx.array]]:
            thunder_side.begin()
            thunder_training.warm_up()
            thunder_side.end(0)
            for number, (epoch, rows) in enumerate(order, start=1):
                with timed(thunder_side, epoch, thunder_training.network, thunder_training.optimizer):
                    thunder_side.losses.append(
                        thunder_training.step(row_order.StepPlan(number, epoch, rows), False).loss
                    )
                with timed(mlx_lm_side, epoch, model, optimizer):
                    ids, _ = tokenized_rows.pad_examples([examples[row] for row in rows])
                    lengths = [(examples[row].offset, len(examples[row].ids) - 1) for row in rows]
                    yield mx.array(ids), mx.array(lengths)

        arguments = trainer.TrainingArgs(
            batch_size=batch, iters=len(order) + 1, steps_per_report=1, steps_per_save=10**9,
            adapter_file=str(Path(folder) / "adapters.safetensors"),
        )  # fmt: skip
        trainer.TrainUI = SilentProgressBar
        trainer.train(
            model, optimizer, examples, None, arguments, loss=mlx_lm_loss,
            iterate_batches=batches_in_turns, training_callback=LossRecorder(mlx_lm_side.losses),
        )  # fmt: skip
    return figures(mlx_lm_side, thunder_side)


@contextmanager
def timed(side: Measurements, epoch: int, model: nn.Module, optimizer: optim.Optimizer) -> Generator[None]:
    """Measure the time of a step, or after the last epoch its memory."""
    if epoch == EPOCHS:
        side.start_memory()
        yield
        side.stop_memory(model.parameters(), optimizer.state)
        return
    side.begin()
    yield
    side.end(epoch)


def figures(mlx_lm_side: Measurements, thunder_side: Measurements) -> dict[str, float]:
    """The ratios that the module's docstring names."""
    parts = {"first_epoch": slice(0, 1), "later_epochs": slice(1, None), "five_epochs": slice(None)}
    ratios = {}
    for name, part in parts.items():
        ratios[f"{name}_ratio"] = mlx_lm_side.cpu[part].sum() / thunder_side.cpu[part].sum()
        ratios[f"{name}_ratio_wall"] = mlx_lm_side.wall[part].sum() / thunder_side.wall[part].sum()
    return ratios | {
        "memory_ratio": thunder_side.peak / mlx_lm_side.peak,
        "max_loss_difference": float(np.abs(np.array(mlx_lm_side.losses) - np.array(thunder_side.losses)).max()),
        "steps": len(thunder_side.losses),
        "loss_of_first_step": thunder_side.losses[0],
        "loss_of_last_step": thunder_side.losses[-1],
        "cpu_seconds_mlx_lm": mlx_lm_side.cpu.sum(),
        "cpu_seconds_thunder": thunder_side.cpu.sum(),
        "peak_bytes_mlx_lm": mlx_lm_side.peak,
        "peak_bytes_thunder": thunder_side.peak,
    }


def use_launcher_environment() -> None:
    """Restart with the environment that the launcher gives to ranks here (OpenBLAS above all), for both sides."""
    system = platform.system()
    expected = rank_plan.system_env(system, openblas.find_openblas(system), environment.core_count(), os.environ)
    if any(os.environ.get(name) != value for name, value in expected.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | expected)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=48, help="a multiple of 4")
    parser.add_argument("--layers", type=int, default=4, help="LoRA layers")
    parser.add_argument("--model", choices=MODELS, default="gemma4", help="which kind is scaled down")
    parser.add_argument("--json", action="store_true", help="print all figures as one JSON object on the last line")
    options = parser.parse_args()
    use_launcher_environment()
    examples = make_examples(options.rows)
    results = {}
    for batch in (1, 4):
        ratios = results[f"batch_{batch}"] = measure(options.model, examples, batch, options.layers)
        print(f"batch {batch}:")
        for name, value in ratios.items():
            print(f"  {name:24} {value:.4g}", flush=True)
    if options.json:
        print(json.dumps({"rows": options.rows, "layers": options.layers, "model": options.model, **results}))


if __name__ == "__main__":
    main()
