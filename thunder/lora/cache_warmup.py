"""Compute the frozen part of every row that a rank will meet before the first step, and store it on disk."""

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
from thunder.lora.engine.frozen_prefix_engine import FrozenPrefixEngine
from thunder.lora.lora_settings import LoraSettings
from thunder.lora.lora_task import LoraTask
from thunder.lora.prefix_cache import PrefixCache
from thunder.lora.tokenized_rows import Example
from thunder.parallel import collectives, row_order
from thunder.parallel.world import World
from thunder.runs.records import environment
from thunder.units import format_bytes, format_seconds, parse_bytes

FORMAT = 1
"""Version of the entries: a new number where they are computed by other arithmetic."""
DISK_DIVISOR = 4  # `auto` uses this part of the free disk
MAX_BYTES = 64 * 10**9  # and at most this much
ROWS_AT_ONCE = 64  # of these, rows of one padded shape are computed together


@dataclass(frozen=True)
class WarmupResult:
    """Result of a warm-up: rows of this rank with an entry, rows expected, rows computed now, bytes of its file.

    dropped: bytes of frozen weights that are no longer in memory.
    """

    cached: int
    expected: int
    computed: int
    size: int
    dropped: int

    def describe(self) -> str:
        """A sentence for the log."""
        text = f"prefix cache: {self.cached} of {self.expected} rows cached, {self.computed} computed now"
        text += f", {format_bytes(self.size)}"
        return text + (f"; {format_bytes(self.dropped)} of frozen layers dropped from memory" if self.dropped else "")


def cache_fingerprint(task: LoraTask, base_digest: str) -> str:
    """SHA-256 of everything but the row that decides an entry: weights, quantization, tokenizer, layers, arithmetic."""
    engine = task.engine
    assert isinstance(engine, FrozenPrefixEngine)
    machine = [environment.chip_name(), str(mx.default_device()), environment.blas_name(), mx.__version__]
    layout = [[spec.name, spec.positions, list(spec.shape), str(spec.dtype)] for spec in engine.split.cached_tensors]
    return digest.sha256_json(
        [
            FORMAT,
            base_digest,
            task.layers,
            layout,
            engine.prefix.shared_ids.tolist(),
            machine,
            environment.package_versions(),
        ]
    )


def warm_up_cache(
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
    """Give a task the entries of all rows that this rank will meet; drop its frozen layers if that is all of them.

    ranks: as planned. base: the model's folder, where ranks may come to meet each other's rows.
    All ranks call it together. None where no layer is frozen, or with `--prefix-cache off`.
    """
    engine = task.engine
    if not isinstance(engine, FrozenPrefixEngine) or engine.split.first_trained == 0 or settings.prefix_cache == "off":
        return None
    rows = rows_for_rank(task, settings, world, ranks)
    begun = time.perf_counter()
    cache = _open_cache(engine, rows, world, cache_fingerprint(task, base_digest), settings.prefix_cache, root)
    computed = _compute_missing(engine, cache, rows, progress)
    cache.flush()
    engine.entry_store = cache
    cached = sum(cache.has_entry(engine.prefix.entry_key(example)) for example in rows)
    dropped = 0
    # where rows are split by the ranks' speeds, a rank may meet others than these, and needs the frozen layers again
    if cached == len(rows) and (base or world.size == 1 or settings.balance == "even"):
        dropped = engine.frozen_weights.nbytes
        engine.drop_frozen(base)
    result = WarmupResult(cached, len(rows), computed, cache.size, dropped)
    log(f"rank {world.rank}: {result.describe()}, in {format_seconds(time.perf_counter() - begun)}")
    return cache


def _open_cache(
    engine: FrozenPrefixEngine, rows: Sequence[Example], world: World, fingerprint: str, setting: str, root: Path
) -> PrefixCache:
    """This rank's cache, with an even share of the budget of its host; the host's first rank evicts other entries."""
    hosts: list[Any] = collectives.gather_json(world, socket.gethostname())
    same_host = [rank for rank, host in enumerate(hosts) if host == hosts[world.rank]]
    budget = disk_budget(setting, root)
    if world.rank == same_host[0]:
        needed = sum(prefix_cache.stored_size(engine.prefix.entry_nbytes(example)) for example in rows)
        budget -= prefix_cache.evict_entries(root, fingerprint, max(0, budget - needed * len(same_host)))
    budgets: list[Any] = collectives.gather_json(world, budget)
    return PrefixCache(root, fingerprint, max(0, budgets[same_host[0]]) // len(same_host), world.rank)


def disk_budget(setting: str, root: Path) -> int:
    """Bytes that entries may take on this host: as given, or for `auto` a part of what is free on the disk."""
    if setting != "auto":
        return parse_bytes(setting)
    root.mkdir(parents=True, exist_ok=True)
    return min(MAX_BYTES, shutil.disk_usage(root).free // DISK_DIVISOR)


def rows_for_rank(task: LoraTask, settings: LoraSettings, world: World, ranks: int) -> list[Example]:
    """The rows that this rank's validations score, then the training rows that it will meet, each once."""
    rows = [*task.valid_examples_of(world.rank, world.size), *task.probe_examples_of(world.rank, world.size)]
    batch = settings.batch_size * ranks * settings.grad_accumulation_steps
    one_epoch = min(settings.total_updates, -(-task.rows // batch))
    for plan in row_order.plan_steps(task.rows, batch, settings.seed, until=one_epoch, lengths=task.lengths):
        rows += [task.train_examples[row] for row in row_order.rank_share(plan.rows, world.rank, world.size)]
    return list({id(example): example for example in rows}.values())


def _compute_missing(
    engine: FrozenPrefixEngine, cache: PrefixCache, rows: Sequence[Example], progress: Callable[[], None]
) -> int:
    """Compute the missing entries, rows of similar length together, while there is room; returns how many."""
    prefix, computed = engine.prefix, 0
    missing = {key: example for example in rows if not cache.has_entry(key := prefix.entry_key(example))}
    # the rows that fit are chosen in their order; only then are they sorted
    left, chosen = cache.budget - cache.size, []
    for example in missing.values():
        left -= prefix_cache.stored_size(prefix.entry_nbytes(example))
        if left < 0:
            break
        chosen.append(example)
    chosen.sort(key=prefix.padded_shape)
    for start in range(0, len(chosen), ROWS_AT_ONCE):
        several = chosen[start : start + ROWS_AT_ONCE]
        for example, entry in zip(several, prefix.compute_entries(several), strict=True):
            if not cache.put(prefix.entry_key(example), entry):
                return computed
            computed += 1
        progress()
    return computed
