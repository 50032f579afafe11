"""Greedy answers to many prompts at once: the input's own words as far as the model agrees, then token by token."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

import mlx.core as mx
from mlx_lm.generate import BatchGenerator

from thunder.evaluation.decoding.kv_cache import Caches
from thunder.evaluation.decoding.prompt_prefix import PromptPrefix
from thunder.evaluation.decoding.scoring import ScoredAnswers, bucket_in_order
from thunder.evaluation.engines import OnFinished

STEPS_BETWEEN_REPORTS = 16  # decoding steps


@dataclass
class DecodedAnswer:
    """What a model says to a prompt. logprobs: of its tokens, the one that ends it included (nats)."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stopped: bool = False
    kept: str | None = None  # the text itself, where it is not what was generated
    alone: float | None = None  # log-probability of the input's own text in its place, where that was asked for
    draft: float | None = None  # log-probability of its draft, where there was one

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


@dataclass(frozen=True)
class DecodeRequest:
    """Prompts as tokens, one entry each. covered: tokens of it that the prefix has. limit: tokens of an answer.

    owner: the case that it belongs to; a case is finished with the last of its prompts. draft: what the answer may well
    be, with the token that ends it; none where rows cannot go on from places in others.
    """

    prompts: list[list[int]]
    covered: list[int]
    limits: list[int]
    owners: list[int]
    drafts: list[list[int]] = field(default_factory=list)


def decode_greedily(
    prefix: PromptPrefix, asked: DecodeRequest, stops: set[int], batch_size: int, finished: OnFinished
) -> list[DecodedAnswer]:
    """Greedy answers, longest prompts first through one generator that fills up what ends.

    Where the model's type allows it, a batch is read with its drafts at once, and the generator goes on where the model
    would have said something else.
    """
    run = _GreedyDecoder(prefix, asked, stops, batch_size)
    order = sorted(range(len(asked.prompts)), key=lambda place: -len(asked.prompts[place]))
    groups = deque([order] if order else [])
    if run.drafted:
        groups = deque(bucket_in_order(order, list(map(len, asked.drafts)), batch_size, prefix.places_at_once))
    steps = 0
    try:
        while groups or run.places:
            ended = 0
            # many at a time: each time that some come in costs a step
            while groups and len(run.places) <= batch_size // 2:
                ended += run.begin(groups.popleft())
            ended, steps = ended + run.step(), steps + 1
            if ended or steps % STEPS_BETWEEN_REPORTS == 0:
                finished(ended)
    finally:
        run.generator.close()
    return run.found


class _GreedyDecoder:
    """Answers on their way. places: of the prompts in the generator, by its numbers."""

    def __init__(self, prefix: PromptPrefix, asked: DecodeRequest, stops: set[int], batch_size: int) -> None:
        self.prefix, self.asked, self.stops = prefix, asked, stops
        self.found = [DecodedAnswer() for _ in asked.prompts]
        self.places: dict[int, int] = {}
        self._left = Counter(asked.owners)
        self.drafted = prefix.forks
        # what comes in from drafts finds half of the last batch at the most
        at_once = 2 * batch_size if self.drafted else batch_size
        self.generator = BatchGenerator(
            prefix.model,
            stop_tokens=[[token] for token in sorted(stops)],
            completion_batch_size=at_once,
            prefill_batch_size=at_once,
        )

    def begin(self, places: list[int]) -> int:
        """Take on prompts, in this order; how many cases are finished by that."""
        prompts = [self.asked.prompts[place] for place in places]
        if self.drafted:
            return self._begin_with_drafts(places, prompts)
        self._insert(places, prompts, None)
        return 0

    def step(self) -> int:
        """One more token of each answer in the generator; how many cases are finished by that."""
        if not self.places:
            return 0
        heard = self.generator.next_generated()
        logprobs = mx.stack([each.logprobs[each.token] for each in heard]).tolist()
        ended = 0
        for each, logprob in zip(heard, logprobs, strict=True):
            self.found[self.places[each.uid]].add(each.token, logprob, each.finish_reason)
            if each.finish_reason:
                ended += self._end(self.places.pop(each.uid))
        return ended

    def _begin_with_drafts(self, places: list[int], prompts: list[list[int]]) -> int:
        drafts = [self.asked.drafts[place] for place in places]
        scored = ScoredAnswers(self.prefix, prompts, drafts, [self.asked.covered[place] for place in places])
        ended, rows = 0, []
        for row, place in enumerate(places):
            self.found[place].draft = scored.totals[row]
            if self._agrees(place, scored.choices[row], drafts[row]):
                ended += self._end(place)
            else:
                rows.append(row)
        if rows:
            going_on = [places[row] for row in rows]
            caches = scored.after(rows, [len(self.found[place].logprobs) for place in going_on])
            each = [[cache.extract(row) for cache in caches] for row in range(len(rows))]
            self._insert(going_on, [self.found[place].tokens[-1:] for place in going_on], each)
        return ended

    def _agrees(self, place: int, choices: list[tuple[int, float]], draft: list[int]) -> bool:
        """Answer by a draft up to the first token that the model would say in its place; whether that is the end."""
        answer = self.found[place]
        for (token, logprob), said in zip(choices, draft, strict=True):
            full = len(answer.logprobs) + 1 >= self.asked.limits[place]
            reason = "stop" if token in self.stops else "length" if full else None
            answer.add(token, logprob, reason)
            if reason or token != said:
                return reason is not None
        raise AssertionError("a draft ends with a token that ends answers")

    def _insert(self, places: list[int], rest: list[list[int]], caches: list[Caches] | None) -> None:
        limits = [self.asked.limits[place] - len(self.found[place].logprobs) for place in places]
        self.places |= zip(self.generator.insert(rest, limits, caches=caches), places, strict=True)

    def _end(self, place: int) -> bool:
        """Whether the case is finished with this answer."""
        self._left[self.asked.owners[place]] -= 1
        return not self._left[self.asked.owners[place]]
