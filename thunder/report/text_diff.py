"""Mark the differences between a text and its reference, and count confusions before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from thunder.report.page_model import Segment
from thunder.text import distance
from thunder.text.normalize import escape_hidden, normalize_text, strip_tones

DELETION, INSERTION, SUBSTITUTION = "-", "+", "~"
_MARKS = {"deletion": DELETION, "insertion": INSERTION, "substitution": SUBSTITUTION}


def plain_segments(text: str) -> list[Segment]:
    """Return a text without marks, in NFC, hidden characters shown."""
    shown = escape_hidden(normalize_text(text.strip()))
    return [shown] if shown else []


def diff_segments(hypothesis: str, reference: str) -> list[Segment]:
    """Split the hypothesis (NFC) into pieces: text where both agree, else [kind, ...] for a difference.

    ["-", reference]: the hypothesis lacks it. ["+", hypothesis]: it is additional. ["~", hypothesis, reference]: a
    substitution.
    """
    pieces: list[Segment] = []
    for operation in distance.align_texts(hypothesis.strip(), reference.strip(), "grapheme"):
        hypothesis_text, reference_text = escape_hidden(operation.hypothesis), escape_hidden(operation.reference)
        last = pieces[-1] if pieces else None
        if operation.kind == "equal":
            if isinstance(last, str):
                pieces[-1] = last + hypothesis_text
            else:
                pieces.append(hypothesis_text)
            continue
        mark = _MARKS[operation.kind]
        if mark == SUBSTITUTION:  # one segment each: the reference is shown above the hypothesis
            pieces.append([mark, hypothesis_text, reference_text])
        elif isinstance(last, list) and last[0] == mark:
            last[1] += hypothesis_text or reference_text
        else:
            pieces.append([mark, hypothesis_text or reference_text])
    return pieces


@dataclass(frozen=True)
class ClusterConfusion:
    """How often a reference cluster was recognized as another, before and after; empty text: none.

    after: None if there is only one text.
    """

    reference: str
    hypothesis: str
    before: int
    after: int | None

    @property
    def kind(self) -> str:
        """tone: only tone marks differ. space: a word was split or joined. letter: all else."""
        if strip_tones(self.reference) == strip_tones(self.hypothesis):
            return "tone"
        return "space" if (self.reference + self.hypothesis).isspace() else "letter"


def count_confusions(texts: Iterable[tuple[str, str, str | None]]) -> list[ClusterConfusion]:
    """Count confusions, the most frequent first, from (reference, text before, text after or None)."""
    before: Counter[tuple[str, str]] = Counter()
    after: Counter[tuple[str, str]] = Counter()
    both = False
    for reference, first, last in texts:
        before.update(_edit_pairs(first, reference))
        if last is not None:
            both = True
            after.update(_edit_pairs(last, reference))
    confusions = [
        ClusterConfusion(*pair, before[pair], after[pair] if both else None) for pair in before.keys() | after.keys()
    ]
    return sorted(confusions, key=lambda each: (-max(each.before, each.after or 0), each.reference, each.hypothesis))


def _edit_pairs(hypothesis: str, reference: str) -> list[tuple[str, str]]:
    operations = distance.align_texts(hypothesis.strip(), reference.strip(), "grapheme", equal=False)
    return [(each.reference, each.hypothesis) for each in operations]
