"""Corrupt text with an error channel at a requested error rate."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate

import numpy as np

from thunder.corpora.channels.error_channel import END, SEEN_OFTEN, START, ErrorChannel
from thunder.errors import UsageError
from thunder.text import distance
from thunder.text.alphabet import character_kind
from thunder.text.distance import ErrorCount
from thunder.text.normalize import normalize_text

# bisection steps for a scale, and the largest scale
HALVINGS = 20
LARGEST_SCALE = 2.0**14
# largest probability of an error, so that probabilities can be scaled
CERTAIN = 0.999
# largest target of edits for each code point: above it nothing of a text is left
WORST_CER = 0.9
# most trial texts, and trials, to measure how many fewer edits there are than errors made
TRIAL_TEXTS, TRIALS = 1000, 5
CLOSE_ENOUGH = 0.02
# most attempts to give a text the edits that were drawn for it, and by what share of them it may miss
ATTEMPTS, MISSED_SHARE = 24, 0.1


@dataclass(frozen=True, slots=True)
class RandomDraw:
    """The outcomes at one place: the probability of an error, the errors, and the mean edits of one."""

    chance: float
    outcomes: tuple[str, ...]
    sums: tuple[int, ...]
    cost: float

    def one(self, source: random.Random) -> str:
        """Draw an error by its count."""
        return self.outcomes[bisect_right(self.sums, source.random() * self.sums[-1])]


def _draw(errors: Mapping[str, int], places: int, cost: Callable[[str], float]) -> RandomDraw:
    """Return a draw from counts of errors among possible places; a channel read from a file draws the same."""
    counted = {outcome: times for outcome, times in sorted(errors.items()) if times > 0}
    total = sum(counted.values())
    if not total:
        return RandomDraw(0.0, (), (), 0.0)
    mean = sum(cost(outcome) * times for outcome, times in counted.items()) / total
    return RandomDraw(total / max(places, total), tuple(counted), tuple(accumulate(counted.values())), mean)


class Perturber:
    """A channel prepared to corrupt texts at a target error rate; it keeps no state between texts.

    target_cer: edits per code point summed over many texts, strictly between 0 and WORST_CER. Each text gets a severity
    drawn from the channel's rows, so that some stay right and some get very bad, and the channel's probabilities are
    scaled to meet it. Raises UsageError for another target, and for a channel without any error.

    every_text: no text stays right. Severities come from rows with errors only, each gives a number of edits, at least
    1, and a text is drawn again until it has about that number. Left to chance, a text that should have one edit has
    none in more than a third of the cases.
    """

    def __init__(self, channel: ErrorChannel, target_cer: float, every_text: bool = False) -> None:
        if not 0 < target_cer < WORST_CER:
            raise UsageError(
                f"the target error rate {target_cer:g} is out of range", fix=f"give one between 0 and {WORST_CER:g}"
            )
        self.channel, self.target_cer, self.every_text = channel, target_cer, every_text
        self.gain = 1.0
        self._runs = {kind: _draw(row, sum(row.values()), int) for kind, row in channel.runs.items()}
        self._loop = _draw(channel.loops, channel.gaps, lambda loop: float(np.prod(_period_and_times(loop))))
        severities = [one for one in channel.severities if one > 0 or not every_text] or [1.0]
        self._severities = _capped(severities, WORST_CER / target_cer)
        # the caches belong to the instance, so that two channels do not share results
        self._change = lru_cache(maxsize=1 << 16)(self._change_at)
        self._insertion = lru_cache(maxsize=1 << 16)(self._insertion_at)
        if not any(row.keys() - {context[-1:]} for context, row in channel.changes.items() if len(context) == 1):
            if channel.insertions.get("", {}).keys() <= {""} and not channel.loops:
                raise UsageError(f"the channel {channel.name!r} makes no errors", fix="learn it from pairs that differ")

    def calibrate(self, texts: Sequence[str], seed: int) -> None:
        """Set the gain by corrupting texts on trial as `corrupt_texts` will: neighboring errors make fewer edits."""
        step = -(-len(texts) // TRIAL_TEXTS) or 1
        for _ in range(TRIALS):
            total = ErrorCount()
            for number in range(0, len(texts), step):
                total += distance.count_errors(
                    self.corrupt(texts[number], perturbation_source(seed, number)), texts[number].strip()
                )
            if not total.rate or abs(total.rate / self.target_cer - 1) < CLOSE_ENOUGH:
                break
            # change at most by a factor of 2 from one trial to the next
            self.gain *= min(2.0, max(0.5, self.target_cer / total.rate))

    def corrupt(self, text: str, source: random.Random) -> str:
        """Return one text (NFC, trimmed) with errors; only `source.random()` is drawn from.

        With every_text, it comes back unchanged only where the channel has no error for any of it.
        """
        text = normalize_text(text).strip()
        padded = START + text + END
        changes = [self._change(padded[at : at + 3]) for at in range(len(text))]
        insertions = [self._insertion(padded[at : at + 2]) for at in range(len(text) + 1)]
        draws = [*changes, *insertions]
        severity = self._severities[int(source.random() * len(self._severities))]
        wanted = severity * self.target_cer * self.gain * len(text)
        if not self.every_text:
            return self._one_attempt(text, changes, insertions, self._scale(wanted, len(text), draws), source)
        # rounded up or down at random
        count = max(1, int(wanted + source.random()))
        scale = self._scale(count, len(text), draws)
        best, least = text, float("inf")
        for _ in range(ATTEMPTS):
            heard = self._one_attempt(text, changes, insertions, scale, source)
            edits = distance.edit_distance(heard, text)
            if not edits:
                scale = min(2 * scale, LARGEST_SCALE)
            elif abs(edits - count) < least:
                best, least = heard, abs(edits - count)
            if least <= MISSED_SHARE * count:
                break
        return best

    def _one_attempt(
        self,
        text: str,
        changes: Sequence[RandomDraw],
        insertions: Sequence[RandomDraw],
        scale: float,
        source: random.Random,
    ) -> str:
        """Return the text with errors drawn at every place. changes, insertions: the draws of its places and gaps."""
        parts: list[str] = []
        at = 0
        while at <= len(text):
            if _happens(insertions[at], scale, source):
                parts.append(insertions[at].one(source))
            if _happens(self._loop, scale, source):
                period, times = _period_and_times(self._loop.one(source))
                parts.append("".join(parts[-period:])[-period:] * times)
            if at < len(text) and _happens(changes[at], scale, source):
                heard = changes[at].one(source)
                parts.append(heard)
                at += 1 if heard else int(self._runs[character_kind(text[at])].one(source))
            else:
                parts += text[at : at + 1]
                at += 1
        return normalize_text("".join(parts)).strip()

    def _scale(self, target: float, length: int, draws: list[RandomDraw]) -> float:
        """Return the power s for which probabilities 1 - (1 - p)^s make `target` edits on average."""
        logs = np.log1p(-np.minimum([draw.chance for draw in (*draws, self._loop)], CERTAIN))
        costs = np.array([*[draw.cost for draw in draws], self._loop.cost * (length + 1)])
        return _bisect(lambda scale: float(costs @ -np.expm1(scale * logs)) - target)

    def _change_at(self, context: str) -> RandomDraw:
        """Return the draw for a code point between its neighbors, by the largest context that was seen often."""
        character = context[1]
        for part in (context, context[:2], character):
            row = self.channel.changes.get(part)
            if row is not None and (part == character or sum(row.values()) >= SEEN_OFTEN):
                errors = {heard: times for heard, times in row.items() if heard != character}
                run = self._runs.get(character_kind(character))
                if run is None:
                    errors.pop("", None)
                run_cost = 1.0 if run is None else run.cost
                return _draw(errors, sum(row.values()), partial(_change_cost, run_cost))
        return _draw({}, 1, len)

    def _insertion_at(self, context: str) -> RandomDraw:
        """Return the draw for a gap between two neighbors."""
        for part in (context, context[:1], ""):
            row = self.channel.insertions.get(part)
            if row is not None and (part == "" or sum(row.values()) >= SEEN_OFTEN):
                errors = {inserted: times for inserted, times in row.items() if inserted}
                return _draw(errors, sum(row.values()), len)
        return _draw({}, 1, len)


def corrupt_text(channel: ErrorChannel, text: str, source: random.Random, target_cer: float) -> str:
    """Corrupt one text at about a target error rate; for many texts make one Perturber and calibrate it."""
    return Perturber(channel, target_cer).corrupt(text, source)


def corrupt_texts(channel: ErrorChannel, texts: Iterable[str], seed: int, target_cer: float) -> list[str]:
    """Corrupt texts so that together they have the target error rate; equal for equal seeds."""
    texts = list(texts)
    perturber = Perturber(channel, target_cer)
    perturber.calibrate(texts, seed)
    return [perturber.corrupt(text, perturbation_source(seed, number)) for number, text in enumerate(texts)]


def perturbation_source(seed: int, number: int) -> random.Random:
    """Return a text's own random source, so that its errors do not depend on the texts before it."""
    return random.Random(f"{seed}/{number}")


def _capped(severities: Sequence[float], most: float) -> tuple[float, ...]:
    """Return severities capped at a maximum and scaled so that their mean is 1 again."""
    values = np.array(severities)
    factor = _bisect(lambda scale: float(np.minimum(scale * values, most).mean()) - 1.0)
    return tuple(np.minimum(factor * values, most).tolist())


def _change_cost(run_cost: float, heard: str) -> float:
    return 1.0 if heard else run_cost


def _happens(draw: RandomDraw, scale: float, source: random.Random) -> bool:
    return draw.chance > 0 and source.random() < 1 - (1 - min(draw.chance, CERTAIN)) ** scale


def _period_and_times(loop: str) -> tuple[int, int]:
    period, _, times = loop.partition("x")
    return int(period), int(times)


def _bisect(excess: Callable[[float], float]) -> float:
    """Return where a rising function that begins at or below 0 crosses it; LARGEST_SCALE if nowhere before that."""
    low, high = 0.0, 1.0
    while excess(high) < 0 and high < LARGEST_SCALE:
        low, high = high, high * 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return (low + high) / 2
