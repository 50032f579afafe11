"""Before the first step: the frozen part of every row that a rank will meet, made in one pass and kept on disk."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from thunder import digest
from thunder.lora import prefix_cache
from thunder.lora.engine.frozen_prefix_engine import Staged
from thunder.lora.lora_settings import LoraSettings
from thunder.lora.lora_task import LoraTask
from thunder.lora.prefix_cache import PrefixCache
from thunder.lora.tokenized_rows import Example
from thunder.parallel import collectives, row_order
from thunder.parallel.world import World
from thunder.runs.records import environment
from thunder.training import faults
from thunder.units import format_bytes, format_seconds, parse_bytes

FORMAT = 1
"""Of entries: a new number where other arithmetic makes them."""
SHARE_OF_DISK = 4
MOST = 64 * 10**9
AT_ONCE = 64  # rows: of these, those of one padded shape go together


@dataclass(frozen=True)
class Filled:
    """What came of a pass: rows that are kept of those that were wanted, rows made now, bytes of this rank's file."""

    kept: int
    wanted: int
    made: int
    size: int
    dropped: int

    def describe(self) -> str:
        """A sentence for the log."""
        text = f"prefix cache: {self.kept} of {self.wanted} rows, {self.made} made now, {format_bytes(self.size)}"
        return text + (f"; {format_bytes(self.dropped)} of frozen layers dropped from memory" if self.dropped else "")


def cache_fingerprint(task: LoraTask, base_digest: str) -> str:
    """SHA-256 of everything but the row that decides an entry: weights, quantization, tokenizer, layers, arithmetic."""
    engine = task.engine
    assert isinstance(engine, Staged)
    machine = [environment.chip(), str(mx.default_device()), environment.blas(), mx.__version__]
    layout = [[part.name, part.positions, list(part.shape), str(part.dtype)] for part in engine.trunk.parts]
    return digest.sha256_json(
        [FORMAT, base_digest, task.layers, layout, engine.prefix.beginning.tolist(), machine, environment.versions()]
    )


def fill(
    task: LoraTask,
    settings: LoraSettings,
    world: World,
    *,
    base_digest: str,
    ranks: int,
    root: Path,
    base: Path | None = None,
    log: Callable[[str], None],
    progress: Callable[[], None] = lambda: None,
) -> PrefixCache | None:
    """Give a task the entries of all rows that this rank will meet, and drop its frozen layers where that is all.

    ranks: as planned. base: the model's folder, where ranks may come to meet each other's rows.
    All ranks call it together. None where there is nothing to keep, or `--prefix-cache off`.
    """
    engine = task.engine
    if not isinstance(engine, Staged) or engine.trunk.first == 0 or settings.prefix_cache == "off":
        return None
    wanted = rows_of_rank(task, settings, world, ranks)
    fingerprint = cache_fingerprint(task, base_digest)
    names: list[Any] = collectives.gather_json(world, socket.gethostname())
    mates = [rank for rank, name in enumerate(names) if name == names[world.rank]]
    budget = room(settings.prefix_cache, root)
    if world.rank == mates[0]:
        need = sum(prefix_cache.entry_size(engine.prefix.size(example)) for example in wanted) * len(mates)
        budget -= prefix_cache.make_room(root, fingerprint, max(0, budget - need))
    rooms: list[Any] = collectives.gather_json(world, budget)
    cache = PrefixCache(root, fingerprint, max(0, rooms[mates[0]]) // len(mates), world.rank)
    begun = time.perf_counter()
    made = _make(engine, cache, wanted, progress)
    cache.flush()
    engine.entries = cache
    kept = sum(cache.holds(engine.prefix.key(example)) for example in wanted)
    dropped = 0
    # where rows go by the ranks' speeds, a rank may meet others than these, and needs the frozen layers again
    if kept == len(wanted) and (base or world.size == 1 or settings.balance == "even"):
        dropped = engine.frozen.size
        engine.drop_frozen(base)
    filled = Filled(kept, len(wanted), made, cache.size, dropped)
    log(f"rank {world.rank}: {filled.describe()}, in {format_seconds(time.perf_counter() - begun)}")
    return cache


def room(said: str, root: Path) -> int:
    """Bytes that entries may have on this host: as said, or for `auto` a part of what is free on the disk."""
    if said != "auto":
        return parse_bytes(said)
    root.mkdir(parents=True, exist_ok=True)
    return min(MOST, shutil.disk_usage(root).free // SHARE_OF_DISK)


def rows_of_rank(task: LoraTask, settings: LoraSettings, world: World, ranks: int) -> list[Example]:
    """The rows that this rank's validations score, then the training rows that it will meet, each once."""
    wanted = [*task.valid_examples_of(world.rank, world.size), *task.probe_examples_of(world.rank, world.size)]
    batch = settings.batch_size * ranks * settings.grad_accumulation_steps
    once = min(settings.total_updates, -(-task.rows // batch))
    for plan in row_order.steps(task.rows, batch, settings.seed, until=once, lengths=task.lengths):
        wanted += [task.train_examples[row] for row in row_order.share(plan.rows, world.rank, world.size)]
    return list({id(example): example for example in wanted}.values())


def _make(engine: Staged, cache: PrefixCache, wanted: Sequence[Example], progress: Callable[[], None]) -> int:
    """Make the entries that are missing, those of like length together, while there is room; returns how many."""
    prefix, made = engine.prefix, 0
    missing = {key: example for example in wanted if not cache.holds(key := prefix.key(example))}
    # what fits is chosen in the order of rows; only then are they sorted
    left, chosen = cache.room - cache.size, []
    for example in missing.values():
        left -= prefix_cache.entry_size(prefix.size(example))
        if left < 0:
            break
        chosen.append(example)
    chosen.sort(key=prefix.shape)
    for start in range(0, len(chosen), AT_ONCE):
        several = chosen[start : start + AT_ONCE]
        for example, entry in zip(several, prefix.compute(several), strict=True):
            if not cache.put(prefix.key(example), entry):
                return made
            made += 1
        faults.at("filling")
        progress()
    return made
