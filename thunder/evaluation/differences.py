"""Where two texts differ, for people: marked text, and which letters are taken for which before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

from thunder.evaluation.judge import final_text
from thunder.text import distance
from thunder.text.alphabet import kind_of
from thunder.text.distance import Operation

_DOTTED = "\u25cc"  # carries a mark that stands alone


def marked(hypothesis: str, reference: str) -> str:
    """The hypothesis as HTML: <del> what should not be there, <ins> what is missing, by grapheme clusters."""
    parts = []
    for kind, run in groupby(distance.align(hypothesis, reference, "grapheme"), key=_kind):
        operations = list(run)
        heard = escape("".join(each.hypothesis for each in operations))
        wanted = escape("".join(each.reference for each in operations))
        if kind == "equal":
            parts.append(heard)
        else:
            parts.append((f"<del>{heard}</del>" if heard else "") + (f"<ins>{wanted}</ins>" if wanted else ""))
    return "".join(parts)


def _kind(operation: Operation) -> str:
    return "equal" if operation.kind == "equal" else "other"


@dataclass(frozen=True)
class Confusion:
    """How often a reference's cluster came out as another, before and after; an empty one is none at all."""

    reference: str
    hypothesis: str
    before: int
    after: int


def confusions(rows: Iterable[dict[str, Any]]) -> list[Confusion]:
    """What is taken for what in judged rows, by how much its number changed."""
    before: Counter[tuple[str, str]] = Counter()
    after: Counter[tuple[str, str]] = Counter()
    for row in rows:
        reference = row["reference"].strip()
        before.update(_pairs(row["input"].strip(), reference))
        after.update(_pairs(final_text(row).strip(), reference))
    found = [Confusion(*pair, before[pair], after[pair]) for pair in before.keys() | after.keys()]
    return sorted(found, key=lambda each: (-abs(each.after - each.before), each.reference, each.hypothesis))


def _pairs(hypothesis: str, reference: str) -> Iterable[tuple[str, str]]:
    operations = distance.align(hypothesis, reference, "grapheme", equal=False)
    return ((each.reference, each.hypothesis) for each in operations)


def shown(cluster: str) -> str:
    """A cluster so that it can be seen: a name for space and for nothing, a carrier for a mark."""
    if not cluster:
        return "nothing"
    if cluster.isspace():
        return "space"
    return f"{_DOTTED}{cluster}" if kind_of(cluster[0]) == "mark" else cluster
