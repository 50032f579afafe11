"""Learn an error channel from pairs of recognized and reference text: outcomes of a code point in its context.

A pair is aligned by code points, so a lost, added or swapped tone mark is an event of its own. A lost space merges two
words; an inserted space splits a word; inserted text that repeats its neighbor is a loop. The file holds the raw
counts; no parameter is fitted.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

from thunder.errors import CorpusError
from thunder.text import distance
from thunder.text.alphabet import character_kind
from thunder.text.distance import EditOperation, OperationKind
from thunder.text.normalize import normalize_text

# markers before and after a text; both are control characters, which no clean text has
START, END = "\x02", "\x03"
# contexts that occur less often than this are replaced by a smaller context
SEEN_OFTEN = 20
# fewest and most code points that a loop repeats: a syllable, a long phrase
SHORTEST_LOOP, LONGEST_LOOP = 2, 24
SEVERITIES = 20

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class ErrorChannel:
    """Counts of recognition outcomes.

    changes: for a code point alone, with the one before it, and with both neighbors: how often each text was recognized
    for it; the same text means no error, the empty text a loss. A run of losses is counted where it begins.
    insertions: for the two neighbors of a gap, for the left one, and over all (""): how often each text was inserted,
    empty for none. runs: by the kind of the first lost code point, how many were lost together.
    loops: "PERIODxTIMES" and its count; gaps: the gaps in which a loop was possible.
    severities: quantiles of a row's error rate over the mean of the rows, so their mean is 1.
    """

    name: str
    provenance: dict[str, Any]
    changes: Counts
    insertions: Counts
    runs: Counts
    loops: dict[str, int]
    gaps: int
    severities: tuple[float, ...] = (1.0,)

    def to_json(self) -> str:
        """The channel as JSON text with sorted keys."""
        return json.dumps(asdict(self), ensure_ascii=True, sort_keys=True, indent=1) + "\n"


def channel_from_json(text: str, path: str) -> ErrorChannel:
    """Read a channel that `to_json` wrote. Raises CorpusError naming the path where it is none."""
    fix = f"learn the channel again and write it to {path}"
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CorpusError(f"{path}: not JSON: {error}", fix=fix) from None
    expected = {field.name for field in fields(ErrorChannel)}
    if not isinstance(value, dict) or value.keys() != expected:
        found = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise CorpusError(f"{path}: not an error channel: has {found}, expected {sorted(expected)}", fix=fix)
    for name, sound in _VALID.items():
        if not sound(value[name]):
            raise CorpusError(f"{path}: '{name}' has an invalid value for an error channel", fix=fix)
    return ErrorChannel(**value | {"severities": tuple(value["severities"])})


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_counts(value: object, key: str = "") -> bool:
    """Return whether a value is a table of counts; key: a pattern that its keys match."""
    return isinstance(value, dict) and all(
        _is_count(times) and (not key or re.fullmatch(key, name)) for name, times in value.items()
    )


_VALID: dict[str, Callable[[Any], bool]] = {
    "name": lambda value: isinstance(value, str),
    "provenance": lambda value: isinstance(value, dict),
    "changes": lambda value: isinstance(value, dict) and all(key and _are_counts(row) for key, row in value.items()),
    "insertions": lambda value: isinstance(value, dict) and all(_are_counts(row) for row in value.values()),
    "runs": lambda value: isinstance(value, dict) and all(_are_counts(row, "[1-9][0-9]*") for row in value.values()),
    "loops": lambda value: _are_counts(value, "[1-9][0-9]*x[1-9][0-9]*"),
    "gaps": _is_count,
    "severities": lambda value: (
        isinstance(value, list) and bool(value) and all(isinstance(one, float) and one >= 0 for one in value)
    ),
}


class _Tally:
    """Counts over a stream of pairs: contexts in bulk, errors one by one."""

    def __init__(self) -> None:
        self.contexts: Counter[tuple[str, str, str]] = Counter()
        self.gap_contexts: Counter[tuple[str, str]] = Counter()
        self.errors: Counter[tuple[str, str]] = Counter()
        self.inserted: Counter[tuple[str, str]] = Counter()
        self.runs: Counter[tuple[str, int]] = Counter()
        self.loops: Counter[str] = Counter()
        self.rates: list[float] = []
        self.pairs = self.edits = self.reference_chars = 0
        self.without_reference = self.too_far = 0

    def add(self, hypothesis: str, reference: str, worst_cer: float) -> None:
        hypothesis, reference = normalize_text(hypothesis), normalize_text(reference)
        if not reference:
            self.without_reference += 1
            return
        if distance.edit_distance(hypothesis, reference) > worst_cer * len(reference):
            self.too_far += 1
            return
        operations = distance.align_texts(hypothesis, reference, equal=False)
        self.pairs += 1
        self.edits += len(operations)
        self.reference_chars += len(reference)
        self.rates.append(len(operations) / len(reference))
        padded = START + reference + END
        self.contexts.update(zip(padded, padded[1:], padded[2:], strict=False))
        self.gap_contexts.update(zip(padded, padded[1:], strict=False))
        shift = 0
        for kind, place, texts in _blocks(operations):
            self._error(kind, padded[place : place + 3], texts, hypothesis, place + shift)
            shift += {"insertion": len(texts), "deletion": -len(texts)}.get(kind, 0)
            if kind == "deletion":
                # the rest of a deleted run cannot have errors of its own: it was deleted with the first
                self.contexts.subtract(
                    zip(*(padded[place + 1 + n : place + len(texts) + n] for n in range(3)), strict=False)
                )

    def _error(self, kind: OperationKind, context: str, texts: list[str], hypothesis: str, other: int) -> None:
        """Count one block of errors; other: its place in the hypothesis."""
        if kind == "substitution":
            self.errors[context, texts[0]] += 1
        elif kind == "deletion":
            self.errors[context, ""] += 1
            self.runs[character_kind(context[1]), len(texts)] += 1
        else:
            inserted = "".join(texts)
            if loop := _loop(hypothesis, other, inserted):
                self.loops[loop] += 1
            else:
                self.inserted[context[:2], inserted] += 1


def _blocks(operations: list[EditOperation]) -> Iterator[tuple[OperationKind, int, list[str]]]:
    """Return adjacent errors as blocks: kind, place in the reference, and the texts recognized (inserted) or lost."""
    at = 0
    while at < len(operations):
        first = operations[at]
        texts = [first.reference if first.kind == "deletion" else first.hypothesis]
        step = 1 if first.kind == "deletion" else 0
        at += 1
        while first.kind != "substitution" and at < len(operations):
            after = operations[at]
            if after.kind != first.kind or after.position != first.position + step * len(texts):
                break
            texts.append(after.reference or after.hypothesis)
            at += 1
        yield first.kind, first.position, texts


def _loop(hypothesis: str, start: int, inserted: str) -> str:
    """Return "PERIODxTIMES" if inserted text repeats its neighbor, else an empty string."""
    size = len(inserted)
    for period in range(SHORTEST_LOOP, min(LONGEST_LOOP, size) + 1):
        unit = inserted[:period]
        times = size // period
        # whole repeats only, so that a loop can be reproduced as counted
        if size % period or unit * times != inserted or not unit.strip():
            continue
        before = hypothesis[max(0, start - period) : start]
        after = hypothesis[start + size : start + size + period]
        if unit in (before, after):
            return f"{period}x{times}"
    return ""


def learn_error_channel(
    pairs: Iterable[tuple[str, str]], provenance: Mapping[str, Any] | None = None, worst_cer: float = 1.0
) -> ErrorChannel:
    """Learn the channel of (hypothesis, reference) pairs in one streaming pass.

    Pairs without a reference, and pairs with more edits than worst_cer of the reference's code points (rewrites, a
    recognizer that loops), are left out and counted in the provenance.
    Raises CorpusError if no pair with an error is left.
    """
    tally = _Tally()
    for hypothesis, reference in pairs:
        tally.add(hypothesis, reference, worst_cer)
    if not tally.edits:
        raise CorpusError(
            f"no pair with an error among {tally.pairs} ({tally.too_far} more exceed a CER of {worst_cer:g})",
            fix="give pairs of recognized and reference text that differ, or a larger worst_cer",
        )
    statistics = {
        "pairs": tally.pairs,
        "pairs_without_reference": tally.without_reference,
        "pairs_over_worst_cer": tally.too_far,
        "worst_cer": worst_cer,
        "edits": tally.edits,
        "reference_chars": tally.reference_chars,
        "cer": tally.edits / tally.reference_chars,
    }
    return ErrorChannel(
        name="learned",
        provenance={**(provenance or {}), **statistics},
        changes=_changes(tally),
        insertions=_insertions(tally),
        runs=_table(((kind, str(length)), times) for (kind, length), times in sorted(tally.runs.items())),
        loops=dict(sorted(tally.loops.items())),
        gaps=tally.gap_contexts.total(),
        severities=_severities(tally.rates),
    )


def _table(entries: Iterable[tuple[tuple[str, str], int]]) -> Counts:
    table: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (context, outcome), times in entries:
        table[context][outcome] = times
    return dict(table)


def _backed_off(
    totals: Mapping[str, int], errors: Mapping[tuple[str, str], int], sizes: Iterable[slice], quiet: int | None
) -> Counts:
    """Return counts of outcomes for each context and its parts, without parts that are too rare.

    sizes: the parts of the full context that are kept, the last one whatever its count. quiet: where in the full
    context the outcome of no error stands, None for the empty text.
    """
    done: Counts = {}
    *larger, smallest = sizes
    for part in (*larger, smallest):
        remaining: Counter[str] = Counter()
        outcomes: Counter[tuple[str, str]] = Counter()
        right: dict[str, str] = {}
        for context, times in totals.items():
            remaining[context[part]] += times
            right[context[part]] = "" if quiet is None else context[quiet]
        for (context, outcome), times in errors.items():
            outcomes[context[part], outcome] += times
            remaining[context[part]] -= times
        table = _table(sorted(outcomes.items()))
        for context, times in sorted(remaining.items()):
            row = {right[context]: times} | table.get(context, {})
            if part == smallest or sum(row.values()) >= SEEN_OFTEN:
                done[context] = row
    return done


def _changes(tally: _Tally) -> Counts:
    totals = {"".join(context): times for context, times in tally.contexts.items() if times > 0}
    # an error where a deleted run covers every other occurrence of the context
    for context, _ in tally.errors:
        totals.setdefault(context, 0)
    return _backed_off(totals, tally.errors, (slice(0, 3), slice(0, 2), slice(1, 2)), quiet=1)


def _insertions(tally: _Tally) -> Counts:
    totals = {"".join(context): times for context, times in tally.gap_contexts.items()}
    return _backed_off(totals, tally.inserted, (slice(0, 2), slice(0, 1), slice(0, 0)), quiet=None)


def _severities(rates: list[float]) -> tuple[float, ...]:
    """Return the mean of each twentieth of the rows, sorted by error rate, over the mean of all."""
    rates, mean = sorted(rates), sum(rates) / len(rates)
    bounds = [len(rates) * part // SEVERITIES for part in range(SEVERITIES + 1)]
    means = [sum(rates[low:high]) / (high - low) for low, high in pairwise(bounds) if high > low]
    return tuple(round(part / mean, 6) for part in means)
