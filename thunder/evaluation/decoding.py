"""A model's greedy answers, many rows at once, the same as one by one."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.generate import BatchGenerator

from thunder.evaluation import changes, windows
from thunder.evaluation.cases import Case
from thunder.evaluation.engines import Finished, Proposal, nothing
from thunder.evaluation.margin import log_probabilities
from thunder.lora import adapters
from thunder.text.distance import edits

CHUNK = 8  # batches whose rows are sorted by length together
SIGN_OF_LIFE = 16  # decoding steps


@dataclass
class _Answer:
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stopped: bool = False
    kept: str | None = None  # the text itself, where it is not what was generated
    alone: float | None = None  # log-probability of the input's own text in its place, where that was asked for

    def add(self, token: int, logprob: float, reason: str | None) -> None:
        """One more token; reason: "stop" where it is the one that ends answers."""
        self.logprobs.append(logprob)
        if reason == "stop":
            self.stopped = True
        else:
            self.tokens.append(token)

    def keep(self, text: str, tokens: list[int], logprob: float) -> None:
        """Be a text of so many tokens, the one that ends it included, instead of what was generated."""
        # its tokens may not spell it to the last space
        self.tokens, self.stopped, self.kept = tokens[:-1], True, text
        self.logprobs = [logprob / len(tokens)] * len(tokens)


class ModelEngine:
    """Greedy answers of a model; with `base_only`, of its base under a LoRA adapter that is put on."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        stops: set[int],
        batch_size: int = 16,
        window: int = 0,
        base_only: bool = False,
        ground: dict[str, Any] | None = None,
        min_margin: float | None = None,
        margins: bool = False,
        change_margin: float | None = None,
        change_edits: int | None = None,
    ) -> None:
        """min_margin: nats per code point of the input by which an answer must be likelier than leaving it alone.

        margins: whether proposals say by how much they are, which costs one forward pass more.
        change_margin: nats by which a single change must make the input likelier, to be made.
        change_edits: code points that such a change may edit at the most.
        """
        self.model, self.tokenizer, self.stops = model, tokenizer, stops
        self.batch_size, self.window, self.base_only = batch_size, window, base_only
        self.chunk = CHUNK * batch_size
        self._ground = ground or {}
        self.min_margin, self.margins = min_margin, margins
        self.change_margin, self.change_edits = change_margin, change_edits

    def describe(self) -> dict[str, Any]:
        """See Engine."""
        return {
            "engine": "model",
            **self._ground,
            "decoding": "greedy",
            "window": self.window,
            "min_margin": self.min_margin,
            "change_margin": self.change_margin,
            "change_edits": self.change_edits,
            "most_tokens": MOST_TOKENS,
        }

    def propose(self, cases: Sequence[Case], finished: Finished = nothing) -> Iterator[Proposal]:
        """See Engine; rows of like length go together, `chunk` cases at a time."""
        self.model.eval()
        for start in range(0, len(cases), self.chunk):
            kept = adapters.switch_off(self.model) if self.base_only else {}
            try:
                yield from self._chunk(cases[start : start + self.chunk], finished)
            finally:
                adapters.switch_on(self.model, kept)

    def _chunk(self, cases: Sequence[Case], finished: Finished) -> list[Proposal]:
        """Proposals of cases that are decoded together; each is told the mean of their seconds."""
        begun = time.perf_counter()
        asked = [windows.prompts(case, self.window) for case in cases]
        prompts = [self._prompt(messages) for messages_of_case, _, _ in asked for messages in messages_of_case]
        limits = [self.limit(piece) for _, pieces, _ in asked for piece in pieces]
        owners = [number for number, (_, pieces, _) in enumerate(asked) for _ in pieces]
        decoded = self._decode(prompts, limits, owners, finished)
        messages = [each for messages_of_case, _, _ in asked for each in messages_of_case]
        every = [piece for _, pieces, _ in asked for piece in pieces]
        if self.change_margin is not None:
            self._make_sure_changes(messages, prompts, every, decoded)
        elif self.min_margin is not None or self.margins:
            self._compare(messages, prompts, every, decoded)
        answers = iter(decoded)
        seconds = (time.perf_counter() - begun) / len(cases)
        return [self._joined([next(answers) for _ in pieces], pieces, gaps, seconds) for _, pieces, gaps in asked]

    def _compare(
        self, messages: list[list[dict[str, Any]]], prompts: list[list[int]], pieces: list[str], answers: list[_Answer]
    ) -> None:
        """Say how likely each piece itself is; with `min_margin`, put it where an answer is not so much likelier."""
        own, alone = self._score(messages, prompts, range(len(pieces)), pieces)
        for answer, tokens, logprob, piece in zip(answers, own, alone, pieces, strict=True):
            answer.alone = logprob
            margin = (sum(answer.logprobs) - logprob) / max(1, len(piece))
            # an answer that came to no end has no probability as a whole
            if self.min_margin is not None and (not answer.stopped or margin < self.min_margin):
                answer.keep(piece, tokens, logprob)

    def _make_sure_changes(
        self, messages: list[list[dict[str, Any]]], prompts: list[list[int]], pieces: list[str], answers: list[_Answer]
    ) -> None:
        """Put the piece with those changes of an answer in its place that, one by one, make it likelier."""
        assert self.change_margin is not None
        found = [
            # an answer that came to no end says nothing of what it would be as a whole
            changes.between(piece, self._text(answer)) if answer.stopped else []
            for piece, answer in zip(pieces, answers, strict=True)
        ]
        # each piece as it is, then with each of its changes
        asked = [(place, None) for place in range(len(pieces))]
        asked += [
            (at, one)
            for at, every in enumerate(found)
            for one in range(len(every))
            if self._small(pieces[at], every[one])
        ]
        texts = [changes.applied(pieces[at], found[at], () if one is None else (one,)) for at, one in asked]
        tokens, logprobs = self._score(messages, prompts, [at for at, _ in asked], texts)
        taken: list[set[int]] = [set() for _ in pieces]
        for (at, one), logprob in zip(asked, logprobs, strict=True):
            if one is not None and logprob - logprobs[at] >= self.change_margin:
                taken[at].add(one)
        for at, answer in enumerate(answers):
            answer.alone = logprobs[at]
            answer.keep(pieces[at], tokens[at], logprobs[at])
        changed = [at for at, numbers in enumerate(taken) if numbers]
        together = [changes.applied(pieces[at], found[at], taken[at]) for at in changed]
        scored = self._score(messages, prompts, changed, together)
        for at, text, own, logprob in zip(changed, together, *scored, strict=True):
            answers[at].keep(text, own, logprob)

    def _small(self, piece: str, change: changes.Change) -> bool:
        old = " ".join(piece.split()[change.start : change.end])
        return self.change_edits is None or edits(old, " ".join(change.words)) <= self.change_edits

    def _score(
        self, messages: list[list[dict[str, Any]]], prompts: list[list[int]], places: Sequence[int], texts: list[str]
    ) -> tuple[list[list[int]], list[float]]:
        """Tokens and log-probability (nats) of texts as answers to the prompts at the given places."""
        tokens = [self._as_answer(messages[at], prompts[at], text) for at, text in zip(places, texts, strict=True)]
        return tokens, log_probabilities(self.model, [prompts[at] for at in places], tokens, self.batch_size)

    def _text(self, answer: _Answer) -> str:
        if answer.kept is not None:
            return answer.kept
        return self.tokenizer.decode(answer.tokens, skip_special_tokens=True)

    def _as_answer(self, messages: list[dict[str, Any]], prompt: list[int], text: str) -> list[int]:
        """The tokens of a text as the model's answer, with the one that ends it."""
        whole = self.tokenizer.apply_chat_template(
            [*messages, {"role": "assistant", "content": text}], add_generation_prompt=False, return_dict=False
        )
        answer = whole[len(prompt) :]
        ends = [place for place, token in enumerate(answer) if token in self.stops]
        return answer[: ends[0] + 1] if ends else [*answer, min(self.stops)]

    def _prompt(self, messages: list[dict[str, Any]]) -> list[int]:
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)

    def limit(self, text: str) -> int:
        """Tokens that an answer to a text may have, so that a model which loops comes to an end."""
        return 2 * len(self.tokenizer.encode(text, add_special_tokens=False)) + 32

    def _joined(self, answers: list[_Answer], pieces: list[str], gaps: list[str], seconds: float) -> Proposal:
        """One proposal of the answers to a case's pieces."""
        texts = [self._text(answer) for answer in answers]
        tokens = [token for answer in answers for token in answer.tokens]
        logprobs = [each for answer in answers for each in answer.logprobs]
        mean = sum(logprobs) / len(logprobs)
        return Proposal(
            texts[0] if len(texts) == 1 else windows.join([text.strip() for text in texts], gaps),
            confidence=mean if math.isfinite(mean) else None,
            seconds=seconds,
            tokens=len(logprobs),
            finished=all(answer.stopped for answer in answers),
            special_only=bool(tokens) and set(tokens) <= set(self.tokenizer.all_special_ids),
            windows=len(answers),
            margin=_margin(answers, sum(map(len, pieces))),
        )

    def _decode(
        self, prompts: list[list[int]], limits: list[int], owners: list[int], finished: Finished
    ) -> list[_Answer]:
        """Greedy answers to prompts, longest first through one generator that fills up what ends.

        owners: the case of each prompt; a case is finished with the last of its prompts.
        """
        answers, left = [_Answer() for _ in prompts], Counter(owners)
        order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
        generator = BatchGenerator(
            self.model,
            stop_tokens=[[token] for token in sorted(self.stops)],
            completion_batch_size=self.batch_size,
            prefill_batch_size=self.batch_size,
        )
        try:
            numbers = generator.insert([prompts[place] for place in order], [limits[place] for place in order])
            places, steps = dict(zip(numbers, order, strict=True)), 0
            while left:
                heard, steps, ended = generator.next_generated(), steps + 1, 0
                logprobs = mx.stack([each.logprobs[each.token] for each in heard]).tolist()
                for each, logprob in zip(heard, logprobs, strict=True):
                    place = places[each.uid]
                    answers[place].add(each.token, logprob, each.finish_reason)
                    if each.finish_reason:
                        left[owners[place]] -= 1
                        ended += not left[owners[place]]
                left = +left  # without those that have nothing left
                if ended or steps % SIGN_OF_LIFE == 0:
                    finished(ended)
        finally:
            generator.close()
        return answers


def _margin(answers: list[_Answer], chars: int) -> float | None:
    """Nats per code point by which answers are likelier than their pieces; None unless all ended and were compared."""
    alone = [answer.alone for answer in answers if answer.alone is not None and answer.stopped]
    if len(alone) < len(answers):
        return None
    return (sum(sum(answer.logprobs) for answer in answers) - sum(alone)) / max(1, chars)


MOST_TOKENS = "2 x tokens of the input + 32"


def stop_tokens(tokenizer: Any, model_config: dict[str, Any]) -> set[int]:
    """Ids that end an answer: the tokenizer's and those of the model's config."""
    ids = model_config.get("eos_token_id", [])
    return {tokenizer.eos_token_id, *(ids if isinstance(ids, list) else [ids])} - {None}
