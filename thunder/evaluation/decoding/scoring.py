"""Log-probabilities of answers to prompts under a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import mlx.core as mx
import mlx.nn as nn

from thunder.evaluation.decoding import kv_cache
from thunder.evaluation.decoding.kv_cache import Caches
from thunder.evaluation.decoding.prompt_prefix import PromptPrefix, common_prefix_length
from thunder.lora.engine.full_model_engine import full_logits


class ScoredAnswers:
    """Prompts with one scored answer each; other answers are scored from the caches of these.

    totals: natural log of the probability of each answer, with its end token. choices: the likeliest token at each
    position of an answer, and its log-probability.
    """

    def __init__(
        self, prefix: PromptPrefix, prompts: Sequence[list[int]], answers: Sequence[list[int]], covered: Sequence[int]
    ) -> None:
        """Score the answers in one batch. covered: tokens of each prompt that the prefix cache holds."""
        self._model, self._forks, self._at_once = prefix.model, prefix.can_fork, prefix.positions_per_pass
        self._prompts, self._answers = prompts, answers
        self._caches: Caches = []
        self.choices: list[list[tuple[int, float]]] = []
        if self._forks:
            self._caches = _prompt_caches(prefix, prompts, covered)
            logits = kv_cache.extend_caches(
                self._model, self._caches, _scoring_inputs([prompt[-1:] for prompt in prompts], answers)
            )
            self._logprobs, self.choices = _token_log_probabilities(logits, answers), _likeliest_tokens(logits, answers)
        else:
            self._logprobs = _score_whole(self._model, prompts, answers)
        self.totals = [sum(each) for each in self._logprobs]

    def after(self, rows: Sequence[int], counts: Sequence[int]) -> Caches:
        """Caches of the given prompts, each with the first `count` tokens of its answer except the last of these."""
        lengths = [len(self._prompts[row]) - 1 + count for row, count in zip(rows, counts, strict=True)]
        return kv_cache.fork_caches(self._caches, rows, lengths)

    def score_alternatives(self, rows: Sequence[int], answers: Sequence[list[int]], batch_size: int) -> list[float]:
        """Log-probability of other answers to the given prompts, in batches."""
        totals = [0.0] * len(rows)
        # an answer is read from the position where it differs from the scored answer
        parts = [common_prefix_length(self._answers[row], answer) for row, answer in zip(rows, answers, strict=True)]
        sizes = [len(answer) - (part if self._forks else 0) for part, answer in zip(parts, answers, strict=True)]
        for places in bucket_by_length(sizes, batch_size, self._at_once):
            chosen, texts = [rows[place] for place in places], [answers[place] for place in places]
            if not self._forks:
                logprobs = _score_whole(self._model, [self._prompts[row] for row in chosen], texts)
            else:
                logprobs = self._score_from(chosen, texts, [parts[place] for place in places])
            for place, each in zip(places, logprobs, strict=True):
                totals[place] = sum(each)
        return totals

    def _score_from(self, rows: Sequence[int], answers: Sequence[list[int]], parts: Sequence[int]) -> list[list[float]]:
        """Log-probability of each token of answers that equal the scored ones up to a position."""
        caches = self.after(rows, parts)
        sequences = [self._prompts[row][-1:] + answer for row, answer in zip(rows, answers, strict=True)]
        last = [sequence[part : part + 1] for sequence, part in zip(sequences, parts, strict=True)]
        rest = [answer[part:] for answer, part in zip(answers, parts, strict=True)]
        new = _token_log_probabilities(kv_cache.extend_caches(self._model, caches, _scoring_inputs(last, rest)), rest)
        known = (self._logprobs[row][:part] for row, part in zip(rows, parts, strict=True))
        return [[*old, *each] for old, each in zip(known, new, strict=True)]


def score_answers(
    prefix: PromptPrefix,
    prompts: Sequence[list[int]],
    answers: Sequence[list[int]],
    covered: Sequence[int],
    batch_size: int,
) -> list[float]:
    """Natural log of the probability of each whole answer after its prompt, with its end token.

    covered: tokens of each prompt that the prefix cache holds. Rows of similar length share a batch.
    """
    totals = [0.0] * len(prompts)
    sizes = [len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
    for places in bucket_by_length(sizes, batch_size, prefix.positions_per_pass):
        batch = ([each[place] for place in places] for each in (prompts, answers))
        scored = ScoredAnswers(prefix, *batch, [covered[place] for place in places])
        for place, total in zip(places, scored.totals, strict=True):
            totals[place] = total
    return totals


def bucket_by_length(sizes: Sequence[int], batch_size: int, most: int) -> Iterator[list[int]]:
    """Batches of row indices, similar sizes together. most: tokens of a batch of several rows, with padding."""
    return bucket_in_order(sorted(range(len(sizes)), key=lambda place: sizes[place]), sizes, batch_size, most)


def bucket_in_order(order: Sequence[int], sizes: Sequence[int], batch_size: int, most: int) -> Iterator[list[int]]:
    """Batches of row indices in the given order; see bucket_by_length."""
    batch: list[int] = []
    widest = 0
    for place in order:
        widest = max(widest, sizes[place])
        if batch and (len(batch) == batch_size or (len(batch) + 1) * widest > most):
            yield batch
            batch, widest = [], sizes[place]
        batch.append(place)
    if batch:
        yield batch


def _prompt_caches(prefix: PromptPrefix, prompts: Sequence[list[int]], covered: Sequence[int]) -> Caches:
    """Caches of prompts without their last tokens, by a separate pass, since prompts need no logits."""
    caches, before = prefix.start(covered), [len(prompt) - 1 for prompt in prompts]
    rest = [prompt[start:end] for prompt, start, end in zip(prompts, covered, before, strict=True)]
    if any(rest):
        kv_cache.extend_caches(prefix.model, caches, rest)
        caches = kv_cache.fork_caches(caches, range(len(prompts)), before)
        mx.eval([cache.state for cache in caches])
    return caches


def _scoring_inputs(before: Sequence[list[int]], answers: Sequence[list[int]]) -> list[list[int]]:
    """The tokens that the model reads to score answers that follow these tokens."""
    return [(first + answer)[: len(answer)] for first, answer in zip(before, answers, strict=True)]


def _score_whole(model: nn.Module, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> list[list[float]]:
    """Log-probability of each token of answers, with prompts and answers in one pass, padded on the right."""
    width = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)) - 1
    rows = [[*prompt, *answer][:-1] for prompt, answer in zip(prompts, answers, strict=True)]
    logits = full_logits(model, mx.array([row + [0] * (width - len(row)) for row in rows]))
    return _token_log_probabilities(logits, answers, [len(prompt) - 1 for prompt in prompts])


def _token_log_probabilities(
    logits: mx.array, answers: Sequence[list[int]], starts: Sequence[int] | None = None
) -> list[list[float]]:
    """Log-probability of each token of answers [B], from logits [B, T, V] at the given positions (default 0) on."""
    starts = starts or [0] * len(answers)
    width = logits.shape[1]
    ids = [[0] * start + answer for start, answer in zip(starts, answers, strict=True)]
    padded = mx.array([row[:width] + [0] * (width - len(row)) for row in ids])  # [B, T]
    logits = logits.astype(mx.float32)
    logprobs = mx.take_along_axis(logits, padded[..., None], axis=-1)[..., 0] - mx.logsumexp(logits, axis=-1)
    return [
        row[start : start + len(answer)] for row, start, answer in zip(logprobs.tolist(), starts, answers, strict=True)
    ]


def _likeliest_tokens(logits: mx.array, answers: Sequence[list[int]]) -> list[list[tuple[int, float]]]:
    """The likeliest token at each position of answers [B] and its log-probability, from logits [B, T, V]."""
    best = mx.argmax(logits, axis=-1)
    logprobs = mx.max(logits, axis=-1).astype(mx.float32) - mx.logsumexp(logits.astype(mx.float32), axis=-1)
    rows = zip(best.tolist(), logprobs.tolist(), answers, strict=True)
    return [list(zip(tokens, each, strict=True))[: len(answer)] for tokens, each, answer in rows]
