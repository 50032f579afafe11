"""The prefix that prompts share, which the model reads once and keeps as a KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby, pairwise

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from thunder.evaluation.decoding import kv_cache
from thunder.evaluation.decoding.kv_cache import Caches
from thunder.lora.engine.full_model_engine import full_logits

LONGEST_PREFIX = 2048  # tokens of one forward pass
SHORTEST_PREFIX = 4  # tokens; forking from fewer costs about as much as reading them
LOGITS_BYTES = 512 * 2**20  # bytes of float32 logits of all answer positions of one forward pass
LEAST_SAVED_TOKENS = 64  # tokens that a separate pass for a prefix must save to be worth its cost


class PromptPrefix:
    """The KV cache of the prefix that saves the most tokens; each prompt uses the part that it begins with.

    state: "on", "off", or "off: CACHE cannot be forked".
    """

    def __init__(self, model: nn.Module, enabled: bool = True) -> None:
        """enabled: whether to keep a prefix at all."""
        self.model = model
        unsupported = kv_cache.unsupported_cache(model)
        self.state = f"off: {unsupported} cannot be forked" if unsupported else "on" if enabled else "off"
        self.tokens: list[int] = []
        self._caches: Caches = []
        self._weights: list[mx.array] = []

    @cached_property
    def positions_per_pass(self) -> int:
        """Answer positions, with padding, whose logits fit into LOGITS_BYTES."""
        logits = full_logits(self.model, mx.zeros((1, 1), mx.int32))  # only for its shape
        return max(1, LOGITS_BYTES // (4 * logits.shape[-1]))

    @property
    def can_fork(self) -> bool:
        """Whether caches of the model can be forked."""
        return self.state == "on"

    def covered_lengths(self, prompts: Sequence[list[int]]) -> list[int]:
        """How many tokens of each prompt are cached; at least one token is left to read.

        A prefix that saves more on these prompts replaces the cached one. Other weights drop the cache.
        """
        if not self.can_fork:
            return [0] * len(prompts)
        self._forget_other_weights()
        candidate = best_prefix(prompts)
        gain = sum(_covered_lengths(prompts, candidate)) - len(candidate)
        if gain >= sum(_covered_lengths(prompts, self.tokens)) + LEAST_SAVED_TOKENS:
            self.cache_prefix(candidate)
        return _covered_lengths(prompts, self.tokens)

    def cache_prefix(self, tokens: list[int]) -> None:
        """Read a prefix and cache it in place of the current one."""
        self._forget_other_weights()
        caches = kv_cache.empty_caches(self.model, 1)
        kv_cache.extend_caches(self.model, caches, [tokens])
        mx.eval([cache.state for cache in caches])
        self.tokens, self._caches = tokens, caches

    def start(self, lengths: Sequence[int]) -> Caches:
        """Caches of rows that begin with the given numbers of tokens of the cached prefix."""
        if not self.tokens:
            return kv_cache.empty_caches(self.model, len(lengths))
        return kv_cache.fork_caches(self._caches, [0] * len(lengths), lengths)

    def _forget_other_weights(self) -> None:
        """Drop a cache that other weights made: adapters are switched on and off on the same model."""
        weights = [array for _, array in tree_flatten(self.model.parameters())]
        if not _same_weights(weights, self._weights):
            self.tokens, self._caches = [], []
        self._weights = weights


def _same_weights(before: Sequence[mx.array], after: Sequence[mx.array]) -> bool:
    """Whether arrays have equal values; the values of identical objects are not compared."""
    if [array.shape for array in before] != [array.shape for array in after]:
        return False
    # an adapter that is switched off gets new zeros each time, and gemma3n replaces weights with clipped ones
    pairs = [pair for pair in zip(before, after, strict=True) if pair[0] is not pair[1]]
    return not pairs or bool(mx.all(mx.stack([mx.array_equal(*pair) for pair in pairs])).item())


def best_prefix(prompts: Sequence[list[int]]) -> list[int]:
    """The prefix that saves the most tokens if the prompts that share it read it once; empty if none saves any."""
    ordered = sorted(prompts)
    common = [min(LONGEST_PREFIX, common_prefix_length(*pair)) for pair in pairwise(ordered)]
    most, best = 0, []
    for length in {each for each in common if each >= SHORTEST_PREFIX}:
        place = 0
        for shared, run in groupby(each >= length for each in common):
            count = sum(1 for _ in run)
            if shared and count * length > most:
                most, best = count * length, ordered[place][:length]
            place += count
    return best


def common_prefix_length(a: Sequence[int], b: Sequence[int]) -> int:
    """The number of tokens that both begin with."""
    different = (place for place, tokens in enumerate(zip(a, b, strict=False)) if tokens[0] != tokens[1])
    return next(different, min(len(a), len(b)))


def _covered_lengths(prompts: Sequence[list[int]], prefix: list[int]) -> list[int]:
    lengths = (min(common_prefix_length(prompt, prefix), len(prompt) - 1) for prompt in prompts)
    return [length if length >= SHORTEST_PREFIX else 0 for length in lengths]
