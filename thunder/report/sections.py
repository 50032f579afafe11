"""Parts that pages have in common: error rates in tables, before and after by group, what is taken for what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from thunder.corpora.channels.confusions import display_character
from thunder.evaluation.metrics.proposal_flags import FLAGS
from thunder.evaluation.metrics.summary import group_order
from thunder.report import charts
from thunder.report.charts import Dumbbell
from thunder.report.loss_curve import Course
from thunder.report.number_format import interval, rate, verdict
from thunder.report.page_model import Cell, Section, Table
from thunder.report.text_diff import Confusion

UNITS = {
    "CER, code points": "cer_{}",
    "CER, graphemes": "cer_{}_grapheme",
    "CER, without tones": "cer_{}_toneless",
    "WER": "wer_{}",
}
GROUPS = {
    "script": "By script",
    "length": "By length (code points of the reference)",
    "input_cer": "By the CER of the input",
}
GATE_NOTE = (
    "The gate's line: in each group the tick stands at the rate before, which is what leaving everything alone gives; "
    "after has to stay to its left, with its whole bar (95 % bootstrap over rows), to be called better."
)
HEAD = ("", "rows", "code points", "before", "after", "change, 95 %", "improved", "neutral", "worse", "worse at most")
KINDS = {"tone": "tone marks", "space": "word space", "letter": "letters"}
TOP = 20
Block = dict[str, Any]


def loss(course: Course) -> list[Section]:
    """The loss, its restarts and its best checkpoint; nothing where no loss was written down."""
    if not course.points:
        return []
    counted = [point for point in course.points if not point.lost]
    ends = [f"{of} {[p for p in counted if p.of == of][-1].loss:.4f}" for of in dict.fromkeys(p.of for p in counted)]
    lines: list[list[str | Cell]] = [["last", str(max(p.step for p in counted)), ", ".join(ends)]]
    if course.best:
        lines.append(["best checkpoint", str(course.best.step), f"validation {course.best.loss:.4f}"])
    for number, each in enumerate(course.restarts, start=1):
        on = "" if each.checkpoint is None else f"; went on from step {each.checkpoint}"
        lines.append([f"restart {number}", str(each.step), each.what + on])
    told = {
        "Dashed vertical lines are restarts.": course.restarts,
        "Paler branches were gone over again.": len(counted) < len(course.points),
        "The ring is the best checkpoint.": course.best,
    }
    notes = [" ".join(sentence for sentence, holds in told.items() if holds)]
    says = f"loss by step; {len(course.restarts)} restarts; " + "; ".join(ends)
    table = Table(("", "step", ""), lines, prose=True)
    return [Section("loss", "Loss", notes, charts.loss(course), says, table)]


def partitions(groups: dict[str, Block], gate: float | None) -> Section:
    """CER by partition as dumbbells with counts and intervals."""
    groups, lines = ordered(groups), []
    for name, block in groups.items():
        before, after, bounds = block["cer_before"], block["cer_after"], block["cer_change_interval95"]
        low, high = (before + bounds[0], before + bounds[1]) if bounds and before is not None else (None, None)
        lines.append(Dumbbell(f"{name} ({block['rows']} rows)", before, after, low, high))
    notes = [GATE_NOTE, *(gate_note(gate))]
    says = "CER before and after by partition: " + "; ".join(
        f"{name} {rate(block['cer_before'])} to {rate(block['cer_after'])}" for name, block in groups.items()
    )
    table = group_table(groups)
    return Section("partition", "CER by partition", notes, charts.dumbbells(lines, "CER", gate), says, table)


def gate_note(gate: float | None) -> list[str]:
    """What the dashed line is, where there is one."""
    return [] if gate is None else [f"The dashed line is the gate that was asked for: CER {gate:g}."]


def ordered(found: dict[str, Block]) -> dict[str, Block]:
    """Groups in their own order: a file that was written for people has its keys in that of the alphabet."""
    return {name: found[name] for name in sorted(found, key=group_order)}


def group_table(groups: dict[str, Block]) -> Table:
    """Counts and rates of groups, each with what its interval shows."""
    tones = {"better": "good", "worse": "bad"}
    lines: list[list[str | Cell]] = []
    for name, block in groups.items():
        said = verdict(block["cer_change"], block["cer_change_interval95"])
        lines.append([
            name, str(block["rows"]), str(block["reference_chars"]), rate(block["cer_before"]),
            rate(block["cer_after"]), interval(block["cer_change"], block["cer_change_interval95"]),
            *(str(block[count]) for count in ("improved", "neutral", "worse")),
            f"{block['worse_upper95']:.1%}", Cell(said, tone=tones.get(said, "")),
        ])  # fmt: skip
    return Table((*HEAD, "shown"), lines)


def rates(results: Block) -> Section:
    """The error rates in every unit."""
    lines = [
        [title, *(rate(results[name.format(when)]) for when in ("before", "after")),
         interval(results[name.format("change")], results[f"{name.format('change')}_interval95"])]
        for title, name in UNITS.items()
    ]  # fmt: skip
    return Section("rates", "Error rates", table=Table(("", "before", "after", "change, 95 %"), lines))


def groups(results: Block) -> list[Section]:
    """The tables by script, length and the input's own rate."""
    return [
        Section(name, title, table=group_table(ordered(results["by"][name])))
        for name, title in GROUPS.items()
        if results.get("by", {}).get(name)
    ]


def flags(results: Block) -> Section:
    """What is wrong with proposals whatever the reference says, beside the base's where it answered too."""
    of_base = results.get("base", {}).get("flags")
    lines = [
        [name, str(results["flags"].get(name, 0)), *([str(of_base.get(name, 0))] if of_base else []), says]
        for name, says in FLAGS.items()
    ]
    head = ("", "proposals", *(["the base's"] if of_base else []), "what it says")
    title = "What is wrong with proposals, whatever the reference says"
    return Section("flags", title, table=Table(head, lines, prose=True))


def confusions(found: Sequence[Confusion]) -> list[Section]:
    """The most frequent confusions of graphemes, tone marks named apart; nothing where there are none."""
    if not found:
        return []
    top = found[:TOP]
    both = top[0].after is not None
    lines = [
        [Cell(display_character(each.reference), letter=True), Cell(display_character(each.hypothesis), letter=True),
         KINDS[each.kind], str(each.before), *([str(each.after), change(each.before, each.after or 0)] if both else [])]
        for each in top
    ]  # fmt: skip
    head = ("wanted", "taken for", "kind", *(("before", "after", "change") if both else ("times",)))
    notes = [
        f"Wanted → taken for: the {len(top)} most frequent of {len(found)}, by grapheme cluster. ∅ "
        f"is nothing, ␣ a space, and a mark by itself stands on a dotted circle. {by_kind(found)}"
    ]
    says = f"the {len(top)} most frequent confusions of graphemes; the table below says the same"
    title = "Graphemes taken for others"
    return [Section("confusions", title, notes, charts.confusions(top), says, Table(head, lines))]


def by_kind(found: Iterable[Confusion]) -> str:
    """How many confusions are of tone marks only, of word spaces, of letters, before and after."""
    found, said = list(found), []
    for kind, title in KINDS.items():
        ours = [each for each in found if each.kind == kind]
        after = f" to {sum(each.after or 0 for each in ours)}" if ours and ours[0].after is not None else ""
        said.append(f"{title} {sum(each.before for each in ours)}{after}")
    return f"In all: {', '.join(said)}."


def change(before: int, after: int) -> Cell:
    """How a count changed; fewer is better."""
    return Cell(f"{after - before:+d}", tone="good" if after < before else "bad" if after > before else "")
