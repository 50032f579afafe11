"""Greedy answers to many prompts at once, through mlx_lm's generator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx
from mlx_lm.generate import BatchGenerator

from thunder.evaluation.engines import Finished
from thunder.evaluation.prompt_prefix import PromptPrefix

SIGN_OF_LIFE = 16  # decoding steps


@dataclass
class Answer:
    """What a model says to a prompt. logprobs: of its tokens, the one that ends it included (nats)."""

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


@dataclass(frozen=True)
class Asked:
    """Prompts as tokens, one entry each. covered: tokens of it that the prefix has. limit: tokens of an answer.

    owner: the case that it belongs to; a case is finished with the last of its prompts.
    """

    prompts: list[list[int]]
    covered: list[int]
    limits: list[int]
    owners: list[int]


def answers(prefix: PromptPrefix, asked: Asked, stops: set[int], batch_size: int, finished: Finished) -> list[Answer]:
    """Greedy answers, longest prompts first through one generator that fills up what ends."""
    found, left = [Answer() for _ in asked.prompts], Counter(asked.owners)
    order = sorted(range(len(found)), key=lambda place: -len(asked.prompts[place]))
    generator = BatchGenerator(
        prefix.model,
        stop_tokens=[[token] for token in sorted(stops)],
        completion_batch_size=batch_size,
        prefill_batch_size=batch_size,
    )
    try:
        places, steps = dict(zip(_insert(generator, prefix, asked, order), order, strict=True)), 0
        while left:
            heard, steps, ended = generator.next_generated(), steps + 1, 0
            logprobs = mx.stack([each.logprobs[each.token] for each in heard]).tolist()
            for each, logprob in zip(heard, logprobs, strict=True):
                place = places[each.uid]
                found[place].add(each.token, logprob, each.finish_reason)
                if each.finish_reason:
                    left[asked.owners[place]] -= 1
                    ended += not left[asked.owners[place]]
            left = +left  # without those that have nothing left
            if ended or steps % SIGN_OF_LIFE == 0:
                finished(ended)
    finally:
        generator.close()
    return found


def _insert(generator: BatchGenerator, prefix: PromptPrefix, asked: Asked, order: Sequence[int]) -> list[int]:
    """Hand prompts over in this order, each from where the prefix ends for it; the generator's numbers of them."""
    covered = [asked.covered[place] for place in order]
    rest = [asked.prompts[place][start:] for place, start in zip(order, covered, strict=True)]
    limits = [asked.limits[place] for place in order]
    return generator.insert(rest, limits, caches=prefix.start_each(covered) if any(covered) else None)
