"""Proposals of a model by greedy decoding; a batch gives the same answers as single rows."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import mlx.nn as nn

from thunder.evaluation.cases import Case
from thunder.evaluation.decoding import chunking, greedy, word_changes
from thunder.evaluation.decoding.greedy import DecodedAnswer, DecodeRequest
from thunder.evaluation.decoding.prompt_prefix import PromptPrefix, common_prefix_length
from thunder.evaluation.decoding.scoring import ScoredAnswers, bucket_by_length, score_answers
from thunder.evaluation.engines import OnFinished, Proposal, ignore_progress
from thunder.lora import adapters
from thunder.lora.prompts.prompt_format import Prompt, PromptFormat
from thunder.text.distance import edit_distance

BATCH = 16  # rows decoded together where nothing else is said
BATCHES_PER_CALL = 8  # batches of one call, whose rows are sorted by length together


@dataclass(frozen=True)
class _ChunkRequests:
    """The chunks of some cases, one entry each: text, prompt, and decode request."""

    texts: list[str]
    prompts: list[Prompt]
    request: DecodeRequest


class ModelEngine:
    """Greedy answers of a model; with `base_only`, of the base with its LoRA adapter switched off."""

    def __init__(
        self,
        model: nn.Module,
        prompts: PromptFormat,
        batch_size: int = BATCH,
        chunk_words: int = 0,
        base_only: bool = False,
        fingerprint: dict[str, Any] | None = None,
        min_margin: float | None = None,
        margins: bool = False,
        change_margin: float | None = None,
        change_edits: int | None = None,
        prefix_cache: bool = True,
    ) -> None:
        """prompts: how messages and answers become tokens, as in training.

        chunk_words: words of one prompt, 0 for whole inputs.

        min_margin: nats per code point by which an answer must be likelier than the unchanged input.
        margins: whether proposals report that margin, which costs one more forward pass.
        change_margin: nats by which a single change must make the input likelier to be applied.
        change_edits: most code points that such a change may edit.
        prefix_cache: whether to cache the shared prefix of prompts and to continue answers from forked caches, where
        the caches of the model allow it.
        """
        self.model, self.prompts = model, prompts
        self.batch_size, self.chunk_words, self.base_only = batch_size, chunk_words, base_only
        self.chunk = BATCHES_PER_CALL * batch_size
        self._ground = fingerprint or {}
        self.min_margin, self.margins = min_margin, margins
        self.change_margin, self.change_edits = change_margin, change_edits
        self.prefix = PromptPrefix(model, prefix_cache)

    def describe(self) -> dict[str, Any]:
        """See ProposalEngine."""
        return {
            "engine": "model",
            **self._ground,
            "decoding": "greedy",
            "window": self.chunk_words,
            "min_margin": self.min_margin,
            "change_margin": self.change_margin,
            "change_edits": self.change_edits,
            "most_tokens": MOST_TOKENS,
            "prefix_cache": self.prefix.state,
        }

    def cache_shared_prefix(self, cases: Sequence[Case]) -> None:
        """Cache the prefix that the prompts of these cases share."""
        prompts = [
            self.prompts.prompt(messages, case.fields.get("tools")).ids
            for case in map(self.in_own_words, cases)
            for messages in chunking.chunk_prompts(case, self.chunk_words)[0]
        ]
        shared = reduce(lambda a, b: a[: common_prefix_length(a, b)], prompts)
        if self.prefix.can_fork and shared:
            with self.adapter_state():
                self.prefix.cache_prefix(shared)

    def propose(self, cases: Sequence[Case], finished: OnFinished = ignore_progress) -> Iterator[Proposal]:
        """See ProposalEngine; rows of similar length share a batch, `chunk` cases at a time."""
        cases = [self.in_own_words(case) for case in cases]
        for start in range(0, len(cases), self.chunk):
            with self.adapter_state():
                proposals = self._propose_batch(cases[start : start + self.chunk], finished)
            yield from proposals

    def in_own_words(self, case: Case) -> Case:
        """A case with the prompt of the adapter's training, where it was made from a text alone."""
        return replace(case, messages=self.prompts.words.messages(case.input)) if case.from_text else case

    @contextmanager
    def adapter_state(self) -> Generator[None]:
        """Switch the adapter off inside the context, where only the base is to answer."""
        self.model.eval()
        scales = adapters.disable_adapter(self.model) if self.base_only else {}
        try:
            yield
        finally:
            adapters.enable_adapter(self.model, scales)

    def _propose_batch(self, cases: Sequence[Case], finished: OnFinished) -> list[Proposal]:
        """Proposals of cases that are decoded together; each gets the mean of their seconds."""
        started = time.perf_counter()
        parts = [chunking.chunk_prompts(case, self.chunk_words) for case in cases]
        texts = [chunk for _, chunks, _ in parts for chunk in chunks]
        messages = [each for messages_of_case, _, _ in parts for each in messages_of_case]
        tools = [case.fields.get("tools") for case, (_, chunks, _) in zip(cases, parts, strict=True) for _ in chunks]
        asked = [self.prompts.prompt(each, of_case) for each, of_case in zip(messages, tools, strict=True)]
        prompts = [each.ids for each in asked]
        owners = [number for number, (_, chunks, _) in enumerate(parts) for _ in chunks]
        request = DecodeRequest(
            prompts, self.prefix.covered_lengths(prompts), [self.token_limit(chunk) for chunk in texts], owners
        )
        chunks = _ChunkRequests(texts, asked, request)
        if self.prefix.can_fork:  # corrections mostly begin like their inputs
            request.drafts.extend(self._answer_tokens(chunks, at, text) for at, text in enumerate(texts))
        decoded = greedy.decode_greedily(self.prefix, request, self.prompts.stops, self.batch_size, finished)
        if self.change_margin is not None:
            for places in bucket_by_length(
                self._uncached_lengths(request), self.batch_size, self.prefix.positions_per_pass
            ):
                self._apply_sure_changes(chunks, places, decoded)
        elif self.min_margin is not None or self.margins:
            self._compare_with_inputs(chunks, decoded)
        answers = iter(decoded)
        seconds = (time.perf_counter() - started) / len(cases)
        return [self._join_answers([next(answers) for _ in own], own, gaps, seconds) for _, own, gaps in parts]

    @staticmethod
    def _uncached_lengths(request: DecodeRequest) -> list[int]:
        return [len(prompt) - known for prompt, known in zip(request.prompts, request.covered, strict=True)]

    def _compare_with_inputs(self, chunks: _ChunkRequests, answers: list[DecodedAnswer]) -> None:
        """Score each chunk itself as the answer; with `min_margin`, replace answers that are not likelier by that."""
        request = chunks.request
        alone = [answer.draft_logprob for answer in answers if answer.draft_logprob is not None]
        own = request.drafts or [self._answer_tokens(chunks, at, text) for at, text in enumerate(chunks.texts)]
        if not request.drafts:
            alone = score_answers(self.prefix, request.prompts, own, request.covered, self.batch_size)
        for answer, tokens, logprob, text in zip(answers, own, alone, chunks.texts, strict=True):
            answer.input_logprob = logprob
            margin = (sum(answer.logprobs) - logprob) / max(1, len(text))
            # an answer without an end token has no probability as a whole
            if self.min_margin is not None and (not answer.stopped or margin < self.min_margin):
                answer.replace_with(text, tokens, logprob)

    def _apply_sure_changes(self, chunks: _ChunkRequests, places: list[int], answers: list[DecodedAnswer]) -> None:
        """Replace each answer with its chunk plus those changes that, each alone, make the chunk likelier."""
        assert self.change_margin is not None
        request = chunks.request
        own = [
            request.drafts[at] if request.drafts else self._answer_tokens(chunks, at, chunks.texts[at]) for at in places
        ]
        prompts, covered = [request.prompts[at] for at in places], [request.covered[at] for at in places]
        scored = ScoredAnswers(self.prefix, prompts, own, covered)
        changes = [self._find_changes(chunks.texts[at], answers[at]) for at in places]
        numbers = [
            (row, one)
            for row, at in enumerate(places)
            for one, change in enumerate(changes[row])
            if self._is_small(chunks.texts[at], change)
        ]
        _, logprobs = self._score_changed(scored, chunks, places, [(row, changes[row], {one}) for row, one in numbers])
        taken: list[set[int]] = [set() for _ in places]
        for (row, one), logprob in zip(numbers, logprobs, strict=True):
            if logprob - scored.totals[row] >= self.change_margin:
                taken[row].add(one)
        for row, at in enumerate(places):
            answers[at].input_logprob = scored.totals[row]
            answers[at].replace_with(chunks.texts[at], own[row], scored.totals[row])
        combined = [(row, changes[row], ones) for row, ones in enumerate(taken) if ones]
        tokens, logprobs = self._score_changed(scored, chunks, places, combined)
        for (row, every, ones), new, logprob in zip(combined, tokens, logprobs, strict=True):
            at = places[row]
            answers[at].replace_with(word_changes.apply_changes(chunks.texts[at], every, ones), new, logprob)

    def _find_changes(self, text: str, answer: DecodedAnswer) -> list[word_changes.WordChange]:
        # an answer without an end token is incomplete
        return word_changes.find_changes(text, self._answer_text(answer)) if answer.stopped else []

    def _score_changed(
        self,
        scored: ScoredAnswers,
        chunks: _ChunkRequests,
        places: list[int],
        requests: list[tuple[int, list[word_changes.WordChange], set[int]]],
    ) -> tuple[list[list[int]], list[float]]:
        """Tokens and log-probability (nats) of the chunks in these rows with these of their changes."""
        tokens = [
            self._answer_tokens(chunks, places[row], word_changes.apply_changes(chunks.texts[places[row]], every, ones))
            for row, every, ones in requests
        ]
        return tokens, scored.score_alternatives([row for row, _, _ in requests], tokens, self.batch_size)

    def _is_small(self, chunk: str, change: word_changes.WordChange) -> bool:
        old = " ".join(chunk.split()[change.start : change.end])
        return self.change_edits is None or edit_distance(old, " ".join(change.words)) <= self.change_edits

    def _answer_text(self, answer: DecodedAnswer) -> str:
        if answer.replacement is not None:
            return answer.replacement
        return self.prompts.decode(answer.tokens)

    def _answer_tokens(self, chunks: _ChunkRequests, at: int, text: str) -> list[int]:
        """The tokens of a text as the model's answer to a chunk, with the end token."""
        return self.prompts.answer(chunks.prompts[at], text)

    def token_limit(self, text: str) -> int:
        """Most tokens of an answer to a text, which stops a model that loops."""
        return 2 * len(self.prompts.tokenizer.encode(text, add_special_tokens=False)) + 32

    def _join_answers(
        self, answers: list[DecodedAnswer], chunks: list[str], gaps: list[str], seconds: float
    ) -> Proposal:
        """One proposal from the answers to the chunks of a case."""
        texts = [self._answer_text(answer) for answer in answers]
        tokens = [token for answer in answers for token in answer.tokens]
        logprobs = [each for answer in answers for each in answer.logprobs]
        mean = sum(logprobs) / len(logprobs)
        return Proposal(
            texts[0] if len(texts) == 1 else chunking.join_chunks([text.strip() for text in texts], gaps),
            confidence=mean if math.isfinite(mean) else None,
            seconds=seconds,
            tokens=len(logprobs),
            finished=all(answer.stopped for answer in answers),
            special_only=bool(tokens) and set(tokens) <= set(self.prompts.tokenizer.all_special_ids),
            windows=len(answers),
            margin=_mean_margin(answers, sum(map(len, chunks))),
        )


def _mean_margin(answers: list[DecodedAnswer], chars: int) -> float | None:
    """Nats per code point by which answers are likelier than their chunks; None unless all are complete and scored."""
    alone = [answer.input_logprob for answer in answers if answer.input_logprob is not None and answer.stopped]
    if len(alone) < len(answers):
        return None
    return (sum(sum(answer.logprobs) for answer in answers) - sum(alone)) / max(1, chars)


MOST_TOKENS = "2 x tokens of the input + 32"
