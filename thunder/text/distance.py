"""Edit distance between texts, and the error rate as a sum that can be added up over rows and over ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rapidfuzz.distance import Levenshtein

from thunder.text.graphemes import graphemes
from thunder.text.normalise import normalise, toneless

# what one edit changes; "toneless" is a code point of a text whose tones are taken away first
Unit = Literal["codepoint", "grapheme", "toneless", "word"]
Kind = Literal["equal", "substitution", "deletion", "insertion"]
_KINDS: dict[str, Kind] = {"replace": "substitution", "delete": "deletion", "insert": "insertion"}


@dataclass(frozen=True)
class ErrorCount:
    """Edits against a number of reference units; add counts first and divide once, for the micro average.

    The unit is the code point where nothing else is said, whence reference_chars.
    """

    edits: int = 0
    reference_chars: int = 0

    def __add__(self, other: ErrorCount) -> ErrorCount:
        return ErrorCount(self.edits + other.edits, self.reference_chars + other.reference_chars)

    @property
    def rate(self) -> float | None:
        """Edits per reference unit; it can pass 1.

        Without any reference unit it is 0.0 where there is no edit either, else None: the quotient is not defined,
        and infinity has no place in JSON.
        """
        if self.reference_chars:
            return self.edits / self.reference_chars
        return None if self.edits else 0.0


@dataclass(frozen=True)
class ErrorCounts:
    """The edits of the same texts counted in each unit; they add up as ErrorCount does."""

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
        """Micro averages by the names under which results print them."""
        return {
            "cer": self.codepoint.rate,
            "cer_grapheme": self.grapheme.rate,
            "cer_toneless": self.toneless.rate,
            "wer": self.word.rate,
        }


class Operation(NamedTuple):
    """One step from the reference to the hypothesis, as a recogniser's error.

    kind: equal, substitution, deletion (the hypothesis lacks a unit) or insertion (it has one too many).
    reference, hypothesis: the unit on each side, empty where there is none. position: the unit's index in the
    reference; an insertion stands before the unit of that index.
    """

    kind: Kind
    reference: str
    hypothesis: str
    position: int


def units(text: str, unit: Unit = "codepoint") -> Sequence[str]:
    """Text (NFC) as the sequence that is compared: code points, grapheme clusters, or words between white space."""
    match unit:
        case "codepoint":
            return normalise(text)
        case "toneless":
            return toneless(text)
        case "grapheme":
            return graphemes(text)
        case "word":
            return normalise(text).split()
    raise ValueError(f"no such unit: {unit!r}")


def edits(hypothesis: str, reference: str, unit: Unit = "codepoint") -> int:
    """Levenshtein distance in units (insertions, deletions and substitutions cost 1), both texts in NFC."""
    return Levenshtein.distance(units(hypothesis, unit), units(reference, unit))


def count(hypothesis: str, reference: str, unit: Unit = "codepoint") -> ErrorCount:
    """Edits from hypothesis to reference, with the reference's length, both in units (NFC)."""
    wanted = units(reference, unit)
    return ErrorCount(Levenshtein.distance(units(hypothesis, unit), wanted), len(wanted))


def count_all(hypothesis: str, reference: str) -> ErrorCounts:
    """The edits in every unit at once: by code point, by grapheme cluster, tone-free, and by word."""
    return ErrorCounts(
        count(hypothesis, reference, "codepoint"),
        count(hypothesis, reference, "grapheme"),
        count(hypothesis, reference, "toneless"),
        count(hypothesis, reference, "word"),
    )


def align(hypothesis: str, reference: str, unit: Unit = "codepoint", equal: bool = True) -> list[Operation]:
    """The fewest operations that lead from reference to hypothesis, in the order of the text.

    Those of kind equal are left out on request. Where several alignments are shortest, one is returned, always the
    same for the same texts.
    """
    wanted, heard = units(reference, unit), units(hypothesis, unit)
    operations: list[Operation] = []
    for step in Levenshtein.opcodes(wanted, heard):
        if step.tag == "equal":
            if equal:
                places = range(step.src_start, step.src_end)
                operations += [Operation("equal", wanted[place], wanted[place], place) for place in places]
            continue
        # a block of substitutions has equal lengths, the other two have an empty side
        for offset in range(max(step.src_end - step.src_start, step.dest_end - step.dest_start)):
            place, other = step.src_start + offset, step.dest_start + offset
            lacks, extra = place >= step.src_end, other >= step.dest_end
            operations.append(
                Operation(
                    _KINDS[step.tag],
                    "" if lacks else wanted[place],
                    "" if extra else heard[other],
                    step.src_start if lacks else place,
                )
            )
    return operations
