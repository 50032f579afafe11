"""Edit distance between texts, and the error rate as a sum that can be added up over rows and over ranks."""

from __future__ import annotations

from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from thunder.text.normalise import normalise


@dataclass(frozen=True)
class ErrorCount:
    """Edits against a number of reference code points; add counts first and divide once, for the micro average."""

    edits: int = 0
    reference_chars: int = 0

    def __add__(self, other: ErrorCount) -> ErrorCount:
        return ErrorCount(self.edits + other.edits, self.reference_chars + other.reference_chars)

    @property
    def rate(self) -> float | None:
        """Edits per reference code point; it can pass 1.

        Without any reference code point it is 0.0 where there is no edit either, else None: the quotient is not
        defined, and infinity has no place in JSON.
        """
        if self.reference_chars:
            return self.edits / self.reference_chars
        return None if self.edits else 0.0


def edits(hypothesis: str, reference: str) -> int:
    """Levenshtein distance in code points (insertions, deletions and substitutions cost 1), both texts in NFC."""
    return Levenshtein.distance(normalise(hypothesis), normalise(reference))


def count(hypothesis: str, reference: str) -> ErrorCount:
    """Edits from hypothesis to reference, with the reference's length in code points (NFC)."""
    return ErrorCount(edits(hypothesis, reference), len(normalise(reference)))
