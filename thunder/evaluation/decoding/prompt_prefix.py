"""The beginning that prompts share, read by the model once and kept."""

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

LONGEST_PREFIX = 2048  # tokens that are read in one pass
SHORTEST_PREFIX = 4  # tokens; starting from fewer costs about as much as reading them
LOGITS_BYTES = 512 * 2**20  # bytes of float32 logits, of all places of answers that are read together
LEAST_SAVED_TOKENS = 64  # tokens that a pass of its own has to save: that costs more than its tokens


class PromptPrefix:
    """Keys and values of the beginning that saves a model most; prompts take as much of it as they begin with."""

    def __init__(self, model: nn.Module, wanted: bool = True) -> None:
        """wanted: whether to keep anything at all."""
        self.model = model
        lacking = kv_cache.unsupported_cache(model)
        self.state = f"off: {lacking} cannot be forked" if lacking else "on" if wanted else "off"
        self.tokens: list[int] = []
        self._caches: Caches = []
        self._weights: list[mx.array] = []

    @cached_property
    def places_at_once(self) -> int:
        """Places of answers, padding included, whose logits may be made together."""
        logits = full_logits(self.model, mx.zeros((1, 1), mx.int32))  # for its shape alone
        return max(1, LOGITS_BYTES // (4 * logits.shape[-1]))

    @property
    def forks(self) -> bool:
        """Whether rows can go on from a place in others."""
        return self.state == "on"

    def covers(self, prompts: Sequence[list[int]]) -> list[int]:
        """How many tokens of each prompt need not be read again; at least one is left to read.

        What is kept gives way to what serves these prompts better, and goes with the weights that it was read with.
        """
        if not self.forks:
            return [0] * len(prompts)
        self._forget_other_weights()
        better = best_prefix(prompts)
        gain = sum(_covered_lengths(prompts, better)) - len(better)
        if gain >= sum(_covered_lengths(prompts, self.tokens)) + LEAST_SAVED_TOKENS:
            self.keep(better)
        return _covered_lengths(prompts, self.tokens)

    def keep(self, tokens: list[int]) -> None:
        """Read a beginning, in the place of the one that is kept."""
        self._forget_other_weights()
        caches = kv_cache.empty_caches(self.model, 1)
        kv_cache.extend_caches(self.model, caches, [tokens])
        mx.eval([cache.state for cache in caches])
        self.tokens, self._caches = tokens, caches

    def start(self, lengths: Sequence[int]) -> Caches:
        """Caches of rows that have read so many tokens of what is kept."""
        if not self.tokens:
            return kv_cache.empty_caches(self.model, len(lengths))
        return kv_cache.fork_caches(self._caches, [0] * len(lengths), lengths)

    def _forget_other_weights(self) -> None:
        """Keep nothing that was read with other weights: adapters come and go on the same model."""
        weights = [array for _, array in tree_flatten(self.model.parameters())]
        if not _same_weights(weights, self._weights):
            self.tokens, self._caches = [], []
        self._weights = weights


def _same_weights(ones: Sequence[mx.array], others: Sequence[mx.array]) -> bool:
    """Whether arrays hold the same; only those are looked into that are not the very same."""
    if [one.shape for one in ones] != [other.shape for other in others]:
        return False
    # an adapter that is switched off has new zeros each time, and gemma3n puts clipped weights in its own's place
    doubtful = [(one, other) for one, other in zip(ones, others, strict=True) if one is not other]
    return not doubtful or bool(mx.all(mx.stack([mx.array_equal(*pair) for pair in doubtful])).item())


def best_prefix(prompts: Sequence[list[int]]) -> list[int]:
    """The beginning that saves the most tokens where those prompts that have it read it once; empty if none does."""
    ordered = sorted(prompts)
    common = [min(LONGEST_PREFIX, common_prefix_length(one, other)) for one, other in pairwise(ordered)]
    most, found = 0, []
    for length in {each for each in common if each >= SHORTEST_PREFIX}:
        place = 0
        for shared, run in groupby(each >= length for each in common):
            count = sum(1 for _ in run)
            if shared and count * length > most:
                most, found = count * length, ordered[place][:length]
            place += count
    return found


def common_prefix_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    unlike = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(unlike, min(len(one), len(other)))


def _covered_lengths(prompts: Sequence[list[int]], beginning: list[int]) -> list[int]:
    lengths = (min(common_prefix_length(prompt, beginning), len(prompt) - 1) for prompt in prompts)
    return [length if length >= SHORTEST_PREFIX else 0 for length in lengths]
