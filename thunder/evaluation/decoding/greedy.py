"""Greedy decoding of many prompts: accept the input as a draft as far as the model agrees, then decode tokens."""

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
    """The answer of a model to a prompt. logprobs: of its tokens, with the end token (nats)."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stopped: bool = False
    replacement: str | None = None  # the text that replaces the generated one, where there is one
    input_logprob: float | None = None  # log-probability of the unchanged input as the answer, where it was scored
    draft_logprob: float | None = None  # log-probability of its draft, where there was one

    def add(self, token: int, logprob: float, reason: str | None) -> None:
        """Add a token. reason: "stop" where it is the end token."""
        self.logprobs.append(logprob)
        if reason == "stop":
            self.stopped = True
        else:
            self.tokens.append(token)

    def replace_with(self, text: str, tokens: list[int], logprob: float) -> None:
        """Replace the generated text with another of these tokens, which include the end token."""
        # decoding the tokens may not give the text with all of its space
        self.tokens, self.stopped, self.replacement = tokens[:-1], True, text
        self.logprobs = [logprob / len(tokens)] * len(tokens)


@dataclass(frozen=True)
class DecodeRequest:
    """Prompts as tokens, with one entry of each field a prompt.

    covered: tokens that the prefix cache holds. limits: most tokens of the answer. owners: index of the case; a case is
    finished with the last of its prompts. drafts: likely answers with their end tokens, empty where caches cannot be
    forked.
    """

    prompts: list[list[int]]
    covered: list[int]
    limits: list[int]
    owners: list[int]
    drafts: list[list[int]] = field(default_factory=list)


def decode_greedily(
    prefix: PromptPrefix, request: DecodeRequest, stops: set[int], batch_size: int, finished: OnFinished
) -> list[DecodedAnswer]:
    """Greedy answers. One generator decodes the longest prompts first; new prompts replace finished ones.

    Where caches can be forked, a batch is first scored with its drafts; the generator continues each answer from the
    first token at which the model's choice differs.
    """
    decoder = _GreedyDecoder(prefix, request, stops, batch_size)
    order = sorted(range(len(request.prompts)), key=lambda place: -len(request.prompts[place]))
    groups = deque([order] if order else [])
    if decoder.drafted:
        groups = deque(bucket_in_order(order, list(map(len, request.drafts)), batch_size, prefix.positions_per_pass))
    steps = 0
    try:
        while groups or decoder.places:
            ended = 0
            # start many at a time: each start costs a step
            while groups and len(decoder.places) <= batch_size // 2:
                ended += decoder.begin(groups.popleft())
            ended, steps = ended + decoder.step(), steps + 1
            if ended or steps % STEPS_BETWEEN_REPORTS == 0:
                finished(ended)
    finally:
        decoder.generator.close()
    return decoder.answers


class _GreedyDecoder:
    """The state of a decoding run. places: generator uid -> index of the prompt."""

    def __init__(self, prefix: PromptPrefix, request: DecodeRequest, stops: set[int], batch_size: int) -> None:
        self.prefix, self.request, self.stops = prefix, request, stops
        self.answers = [DecodedAnswer() for _ in request.prompts]
        self.places: dict[int, int] = {}
        self._left = Counter(request.owners)
        self.drafted = prefix.can_fork
        # prompts that continue from drafts join at most half of the last batch
        at_once = 2 * batch_size if self.drafted else batch_size
        self.generator = BatchGenerator(
            prefix.model,
            stop_tokens=[[token] for token in sorted(stops)],
            completion_batch_size=at_once,
            prefill_batch_size=at_once,
        )

    def begin(self, places: list[int]) -> int:
        """Start prompts in this order; returns how many cases that finishes."""
        prompts = [self.request.prompts[place] for place in places]
        if self.drafted:
            return self._begin_with_drafts(places, prompts)
        self._insert(places, prompts, None)
        return 0

    def step(self) -> int:
        """Decode one more token of each answer; returns how many cases that finishes."""
        if not self.places:
            return 0
        responses = self.generator.next_generated()
        logprobs = mx.stack([each.logprobs[each.token] for each in responses]).tolist()
        ended = 0
        for each, logprob in zip(responses, logprobs, strict=True):
            self.answers[self.places[each.uid]].add(each.token, logprob, each.finish_reason)
            if each.finish_reason:
                ended += self._end(self.places.pop(each.uid))
        return ended

    def _begin_with_drafts(self, places: list[int], prompts: list[list[int]]) -> int:
        drafts = [self.request.drafts[place] for place in places]
        scored = ScoredAnswers(self.prefix, prompts, drafts, [self.request.covered[place] for place in places])
        ended, rows = 0, []
        for row, place in enumerate(places):
            self.answers[place].draft_logprob = scored.totals[row]
            if self._accept_draft(place, scored.choices[row], drafts[row]):
                ended += self._end(place)
            else:
                rows.append(row)
        if rows:
            going_on = [places[row] for row in rows]
            caches = scored.after(rows, [len(self.answers[place].logprobs) for place in going_on])
            each = [[cache.extract(row) for cache in caches] for row in range(len(rows))]
            self._insert(going_on, [self.answers[place].tokens[-1:] for place in going_on], each)
        return ended

    def _accept_draft(self, place: int, choices: list[tuple[int, float]], draft: list[int]) -> bool:
        """Accept a draft up to the first token at which the model differs; returns whether the answer is complete."""
        answer = self.answers[place]
        for (token, logprob), drafted in zip(choices, draft, strict=True):
            full = len(answer.logprobs) + 1 >= self.request.limits[place]
            reason = "stop" if token in self.stops else "length" if full else None
            answer.add(token, logprob, reason)
            if reason or token != drafted:
                return reason is not None
        raise AssertionError("a draft ends with an end token")

    def _insert(self, places: list[int], rest: list[list[int]], caches: list[Caches] | None) -> None:
        limits = [self.request.limits[place] - len(self.answers[place].logprobs) for place in places]
        self.places |= zip(self.generator.insert(rest, limits, caches=caches), places, strict=True)

    def _end(self, place: int) -> bool:
        """Count an answer as complete; returns whether that finishes its case."""
        self._left[self.request.owners[place]] -= 1
        return not self._left[self.request.owners[place]]
