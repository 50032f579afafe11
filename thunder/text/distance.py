"""Edit distance between texts, and error counts that can be summed over rows and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import regex
from rapidfuzz.distance import Levenshtein

from thunder.text.alphabet import character_kind
from thunder.text.normalize import normalize_text, strip_tones

if TYPE_CHECKING:
    import numpy as np

# what one edit changes; "toneless": a code point of the text without tone marks
ErrorUnit = Literal["codepoint", "grapheme", "toneless", "word"]
OperationKind = Literal["equal", "substitution", "deletion", "insertion"]
# a stretch with more possible pairs than this is paired in order
MAX_TABLE_CELLS = 1000

# the extended grapheme cluster of Unicode Standard Annex 29
CLUSTER = regex.compile(r"\X")


@dataclass(frozen=True)
class ErrorCount:
    """Edits against a number of reference units. Sum the counts and divide once for the micro average.

    The unit is the code point unless stated otherwise, hence the name reference_chars.
    """

    edits: int = 0
    reference_chars: int = 0

    def __add__(self, other: ErrorCount) -> ErrorCount:
        return ErrorCount(self.edits + other.edits, self.reference_chars + other.reference_chars)

    @property
    def rate(self) -> float | None:
        """Edits per reference unit; it can exceed 1.

        Without reference units it is 0.0 if there are no edits, else None: the quotient is undefined, and JSON has no
        infinity.
        """
        if self.reference_chars:
            return self.edits / self.reference_chars
        return None if self.edits else 0.0


@dataclass(frozen=True)
class ErrorCounts:
    """The edits of the same texts in each unit; they add up as ErrorCount does."""

    codepoint: ErrorCount = ErrorCount()
    grapheme: ErrorCount = ErrorCount()
    toneless: ErrorCount = ErrorCount()
    word: ErrorCount = ErrorCount()

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.codepoint + other.codepoint,
            self.grapheme + other.grapheme,
            self.toneless + other.toneless,
            self.word + other.word,
        )

    def rates(self) -> dict[str, float | None]:
        """Return micro averages by the names that results use."""
        return {
            "cer": self.codepoint.rate,
            "cer_grapheme": self.grapheme.rate,
            "cer_toneless": self.toneless.rate,
            "wer": self.word.rate,
        }


class EditOperation(NamedTuple):
    """One step of the alignment from reference to hypothesis.

    kind: equal, substitution, deletion (the hypothesis lacks a unit) or insertion (it has an additional unit).
    reference, hypothesis: the unit on each side, empty if there is none. position: the unit's index in the reference;
    an insertion is before the unit at that index.
    """

    kind: OperationKind
    reference: str
    hypothesis: str
    position: int


def split_units(text: str, unit: ErrorUnit = "codepoint") -> Sequence[str]:
    """Split text (NFC) into units: code points, grapheme clusters, or words between white space."""
    match unit:
        case "codepoint":
            return normalize_text(text)
        case "toneless":
            return strip_tones(text)
        case "grapheme":
            return grapheme_clusters(text)
        case "word":
            return normalize_text(text).split()
    raise ValueError(f"no such unit: {unit!r}")


def grapheme_clusters(text: str) -> list[str]:
    """Return the extended grapheme clusters of a text in NFC; joined they give that text.

    A N'Ko vowel with nasal dot and tone is one cluster, 1.4 code points on average. The apostrophes U+07F4 and U+07F5
    and lajanyalan are letters (Lm), so each is a cluster of its own.
    """
    return CLUSTER.findall(normalize_text(text))


def edit_distance(hypothesis: str, reference: str, unit: ErrorUnit = "codepoint") -> int:
    """Return the Levenshtein distance in units (insertion, deletion, substitution cost 1 each), both texts in NFC."""
    return Levenshtein.distance(split_units(hypothesis, unit), split_units(reference, unit))


def pairwise_distances(some: Sequence[str], others: Sequence[str], limit: int) -> np.ndarray:
    """Return the Levenshtein distance of each pair [N] in code points, of texts as they are; above limit, limit + 1."""
    import numpy as np  # help and other commands that need no arrays start without it
    from rapidfuzz.process import cpdist

    return cpdist(some, others, scorer=Levenshtein.distance, score_cutoff=limit, dtype=np.int32)


def count_errors(hypothesis: str, reference: str, unit: ErrorUnit = "codepoint") -> ErrorCount:
    """Return the edits from hypothesis to reference and the reference's length, both in units (NFC)."""
    reference_units = split_units(reference, unit)
    return ErrorCount(Levenshtein.distance(split_units(hypothesis, unit), reference_units), len(reference_units))


def count_all_errors(hypothesis: str, reference: str) -> ErrorCounts:
    """Count the edits in every unit: code point, grapheme cluster, without tones, and word."""
    return ErrorCounts(
        count_errors(hypothesis, reference, "codepoint"),
        count_errors(hypothesis, reference, "grapheme"),
        count_errors(hypothesis, reference, "toneless"),
        count_errors(hypothesis, reference, "word"),
    )


def align_texts(
    hypothesis: str, reference: str, unit: ErrorUnit = "codepoint", equal: bool = True
) -> list[EditOperation]:
    """Return the fewest operations that lead from reference to hypothesis, in text order.

    equal=False leaves out operations of kind equal. Among shortest alignments, one that pairs characters of one kind (a
    mark with a mark, a letter with a letter) is preferred; the result is deterministic.
    """
    reference_units, hypothesis_units = split_units(reference, unit), split_units(hypothesis, unit)
    operations: list[EditOperation] = []
    place = other = 0
    for match in Levenshtein.opcodes(reference_units, hypothesis_units):
        if match.tag != "equal":
            continue
        operations += _align_stretch(
            reference_units, hypothesis_units, (place, match.src_start), (other, match.dest_start)
        )
        place, other = match.src_end, match.dest_end
        if equal:
            operations += [
                EditOperation("equal", reference_units[at], reference_units[at], at)
                for at in range(match.src_start, place)
            ]
    return operations + _align_stretch(
        reference_units, hypothesis_units, (place, len(reference_units)), (other, len(hypothesis_units))
    )


def _align_stretch(
    reference: Sequence[str], hypothesis: Sequence[str], here: tuple[int, int], there: tuple[int, int]
) -> list[EditOperation]:
    """Return the operations between two equal stretches: reference from here[0] to here[1] against hypothesis from
    there[0].
    """
    (place, end), (other, last) = here, there
    lost, extra = end - place, last - other
    if not lost:
        return [EditOperation("insertion", "", hypothesis[at], place) for at in range(other, last)]
    if not extra:
        return [EditOperation("deletion", reference[at], "", at) for at in range(place, end)]
    if lost == extra:
        return [
            EditOperation("substitution", reference[place + n], hypothesis[other + n], place + n) for n in range(lost)
        ]
    if lost < extra:
        partners = _best_pairing(reference[place:end], hypothesis[other:last])
        operations = []
        for at in range(extra):
            if at in partners:
                operations.append(EditOperation("substitution", reference[place], hypothesis[other + at], place))
                place += 1
            else:
                operations.append(EditOperation("insertion", "", hypothesis[other + at], place))
        return operations
    partners = _best_pairing(hypothesis[other:last], reference[place:end])
    operations = []
    for at in range(place, end):
        if at - place in partners:
            operations.append(EditOperation("substitution", reference[at], hypothesis[other], at))
            other += 1
        else:
            operations.append(EditOperation("deletion", reference[at], "", at))
    return operations


def _best_pairing(few: Sequence[str], many: Sequence[str]) -> set[int]:
    """Return which of `many` the items of `few` are paired with, in order, so that most pairs are of one kind; first
    such way.
    """
    if len(few) * len(many) > MAX_TABLE_CELLS:
        return set(range(len(few)))
    spare = len(many) - len(few)
    # best[n][s]: pairs of one kind among few[n:] if s of the earlier items of `many` are unpaired
    best = [[0] * (spare + 1) for _ in range(len(few) + 1)]
    for n in range(len(few) - 1, -1, -1):
        for skipped in range(spare, -1, -1):
            paired = best[n + 1][skipped] + _same_kind(few[n], many[n + skipped])
            best[n][skipped] = max(paired, best[n][skipped + 1] if skipped < spare else 0)
    partners, skipped = set(), 0
    for n in range(len(few)):
        while best[n + 1][skipped] + _same_kind(few[n], many[n + skipped]) < best[n][skipped]:
            skipped += 1
        partners.add(n + skipped)
    return partners


def _same_kind(one: str, other: str) -> bool:
    return character_kind(one[0]) == character_kind(other[0])
