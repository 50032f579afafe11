"""A LoRA step of thunder against mlx_lm's own, on the same rows with the same losses.

    .venv/bin/python benchmarks/lora_vs_mlx_lm.py [--rows 48] [--layers 4] [--model gemma3n] [--json]

`mlx_lm.tuner.trainer.train` runs as it is (without its progress bar) over batches that this script hands it; between
two of its steps ours does the same rows: A B A B. Both start from the same weights and LoRA matrices, with AdamW at one
rate; mlx_lm's lengths are one shorter, since its mask takes one target too many behind a padded row. The model is a
gemma4_text scaled down (35 layers, 20 of them KV-shared, hidden 128, vocabulary 21,824, random weights, float32), the
rows have a system prompt of 26 tokens, 34 to 94 more of prompt and 20 to 60 of answer, made here.

With `--model gemma3n` it is a gemma3n scaled down in the same way (30 layers, 10 of them KV-shared). mlx_lm shares its
keys and values through a cache alone, and cannot run with LoRA on all of its matrices: there its step gets empty caches
and our LoRA keys.

For batches of 1 and of 4: examples per CPU second (and in wall time) of ours over theirs in the first epoch, with the
filling of the prefix cache counted; in later epochs; and over five epochs. Peak memory of a step, ours over theirs,
each with its own weights and optimizer, once the cache is filled. The largest difference of a step's loss.
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
    """The same weights at every call."""
    mx.random.seed(7)
    model = MODELS[kind]()
    mx.eval(model.parameters())
    return model


def make_examples(count: int, seed: int = 3) -> list[Example]:
    """Rows of random tokens, common ones more often, as the design's measurements have them."""
    draw = np.random.default_rng(seed)

    def tokens(number: int) -> list[int]:
        return np.minimum(300 * draw.pareto(0.9, number), VOCABULARY - 10).astype(int).tolist()

    system, examples = tokens(SYSTEM), []
    for _ in range(count):
        prompt = [*system, *tokens(int(draw.integers(34, 95)))]
        ids = [*prompt, *tokens(int(draw.integers(20, 61)))]
        examples.append(Example(np.array(ids, np.int32) + 5, len(prompt), ChatRow((), "made", "made")))
    return examples


class Side:
    """What one of the two has used: CPU and wall seconds of each epoch, its losses, the most bytes of a step."""

    def __init__(self) -> None:
        self.cpu, self.wall = np.zeros(EPOCHS), np.zeros(EPOCHS)
        self.losses: list[float] = []
        self.peak = 0

    def begin(self) -> None:
        """Start the clocks."""
        self._begun = time.process_time(), time.perf_counter()

    def end(self, epoch: int) -> None:
        """Stop the clocks, on an epoch's account."""
        self.cpu[epoch] += time.process_time() - self._begun[0]
        self.wall[epoch] += time.perf_counter() - self._begun[1]

    def watch(self) -> None:
        """Start to measure memory."""
        mx.clear_cache()
        self._before = mx.get_active_memory()
        mx.reset_peak_memory()

    def watched(self, *own: Any) -> None:
        """What was used above what there was, and this side's own arrays; the other's are left out."""
        held = sum(array.nbytes for tree in own for _, array in tree_flatten(tree) if isinstance(array, mx.array))
        self.peak = max(self.peak, mx.get_peak_memory() - self._before + held)


class Silent:
    """In the place of mlx_lm's progress bar."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: Any) -> None: ...

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class Losses(TrainingCallback):
    """mlx_lm's loss of every step."""

    def __init__(self, losses: list[float]) -> None:
        self.losses = losses

    def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
        self.losses.append(train_info["train_loss"])


class Ours:
    """The product's task and step, its prefix cache in a folder that is thrown away."""

    def __init__(self, kind: str, examples: list[Example], settings: LoraSettings, folder: Path) -> None:
        self.network = fresh_model(kind)
        self.task = LoraTask(self.network, settings, examples)
        self.optimizer = make_optimizer(settings)
        self.step = make_step(self.task, self.optimizer, settings, World())
        self.settings, self.folder = settings, folder

    def warm_up(self) -> None:
        """Make every row's entry, drop the frozen layers."""
        cache_warmup.warm_up_cache(
            self.task, self.settings, World(), base_digest="made", ranks=1, root=self.folder,
            log=lambda text: print(f"  {text}", file=sys.stderr),
        )  # fmt: skip


def epochs(examples: list[Example], batch: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """(epoch, rows) of every step as mlx_lm makes them: sorted by length, the batches in a random order.

    Behind the last epoch come a few batches, the longest, for memory.
    """
    place = sorted(range(len(examples)), key=lambda number: len(examples[number].ids))
    whole = [tuple(place[start : start + batch]) for start in range(0, len(place) - batch + 1, batch)]
    draw = np.random.default_rng(0)
    for epoch in range(EPOCHS):
        yield from ((epoch, whole[number]) for number in draw.permutation(len(whole)))
    yield from ((EPOCHS, rows) for rows in whole[-3:])


def their_loss(model: nn.Module, ids: mx.array, lengths: mx.array) -> tuple[mx.array, mx.array]:
    """mlx_lm's, of the model as it generates."""
    return trainer.default_loss(partial(full_logits, model), ids, lengths)


def measure(kind: str, examples: list[Example], batch: int, layers: int) -> dict[str, float]:
    """Both sides over the same batches, in turns."""
    order = list(epochs(examples, batch))
    settings = LoraSettings(
        num_layers=layers, batch_size=batch, learning_rate=RATE, lr_final=1.0, max_grad_norm=0.0, iters=len(order)
    )
    theirs, mine = Side(), Side()
    model = fresh_model(kind)
    adapters.add_lora(model, settings)
    optimizer = optim.AdamW(RATE, betas=settings.adam_betas, weight_decay=settings.weight_decay)
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(kind, examples, settings, Path(folder))

        def batches_in_turns(**_: Any) -> Iterator[tuple[mx.array, mx.array]]:
            mine.begin()
            ours.warm_up()
            mine.end(0)
            for number, (epoch, rows) in enumerate(order, start=1):
                with timed(mine, epoch, ours.network, ours.optimizer):
                    mine.losses.append(ours.step(row_order.StepPlan(number, epoch, rows), False).loss)
                with timed(theirs, epoch, model, optimizer):
                    ids, _ = tokenized_rows.pad_examples([examples[row] for row in rows])
                    lengths = [(examples[row].offset, len(examples[row].ids) - 1) for row in rows]
                    yield mx.array(ids), mx.array(lengths)

        how = trainer.TrainingArgs(
            batch_size=batch, iters=len(order) + 1, steps_per_report=1, steps_per_save=10**9,
            adapter_file=str(Path(folder) / "adapters.safetensors"),
        )  # fmt: skip
        trainer.TrainUI = Silent
        trainer.train(
            model, optimizer, examples, None, how, loss=their_loss,
            iterate_batches=batches_in_turns, training_callback=Losses(theirs.losses),
        )  # fmt: skip
    return figures(theirs, mine)


@contextmanager
def timed(side: Side, epoch: int, model: nn.Module, optimizer: optim.Optimizer) -> Generator[None]:
    """Time of a step, or its memory behind the last epoch."""
    if epoch == EPOCHS:
        side.watch()
        yield
        side.watched(model.parameters(), optimizer.state)
        return
    side.begin()
    yield
    side.end(epoch)


def figures(theirs: Side, mine: Side) -> dict[str, float]:
    """The ratios that the module's text names."""
    parts = {"first_epoch": slice(0, 1), "later_epochs": slice(1, None), "five_epochs": slice(None)}
    found = {}
    for name, part in parts.items():
        found[f"{name}_ratio"] = theirs.cpu[part].sum() / mine.cpu[part].sum()
        found[f"{name}_ratio_wall"] = theirs.wall[part].sum() / mine.wall[part].sum()
    return found | {
        "memory_ratio": mine.peak / theirs.peak,
        "max_loss_difference": float(np.abs(np.array(theirs.losses) - np.array(mine.losses)).max()),
        "steps": len(mine.losses),
        "loss_of_first_step": mine.losses[0],
        "loss_of_last_step": mine.losses[-1],
        "cpu_seconds_theirs": theirs.cpu.sum(),
        "cpu_seconds_ours": mine.cpu.sum(),
        "peak_bytes_theirs": theirs.peak,
        "peak_bytes_ours": mine.peak,
    }


def take_the_launchers_environment() -> None:
    """Start again with what the launcher gives to ranks on this system, OpenBLAS above all: for both sides alike."""
    system = platform.system()
    wanted = rank_plan.system_env(system, openblas.find_openblas(system), environment.core_count(), os.environ)
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=48, help="a multiple of 4")
    parser.add_argument("--layers", type=int, default=4, help="LoRA layers")
    parser.add_argument("--model", choices=MODELS, default="gemma4", help="which kind is scaled down")
    parser.add_argument("--json", action="store_true", help="print all figures as one JSON object on the last line")
    options = parser.parse_args()
    take_the_launchers_environment()
    examples = make_examples(options.rows)
    results = {}
    for batch in (1, 4):
        found = results[f"batch_{batch}"] = measure(options.model, examples, batch, options.layers)
        print(f"batch {batch}:")
        for name, value in found.items():
            print(f"  {name:24} {value:.4g}", flush=True)
    if options.json:
        print(json.dumps({"rows": options.rows, "layers": options.layers, "model": options.model, **results}))


if __name__ == "__main__":
    main()
