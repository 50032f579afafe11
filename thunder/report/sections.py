"""Sections that several pages share: loss, error rates, before and after by group, confusions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from thunder.corpora.channels.confusions import display_character
from thunder.evaluation.metrics.proposal_flags import FLAGS
from thunder.evaluation.metrics.summary import group_order
from thunder.report import charts
from thunder.report.charts import Dumbbell
from thunder.report.loss_curve import LossCurve
from thunder.report.number_format import describe_change, format_interval, format_rate
from thunder.report.page_model import PageSection, PageTable, TableCell
from thunder.report.text_diff import ClusterConfusion

UNITS = {
    "CER, code points": "cer_{}",
    "CER, graphemes": "cer_{}_grapheme",
    "CER, without tones": "cer_{}_toneless",
    "WER": "wer_{}",
}
GROUP_TITLES = {
    "script": "By script",
    "length": "By length (code points of the reference)",
    "input_cer": "By the CER of the input",
}
GATE_NOTE = (
    "The gate's line: in each group the tick stands at the rate before, which is what leaving everything alone gives; "
    "after has to stay to its left, with its whole bar (95 % bootstrap over rows), to be called better."
)
GROUP_COLUMNS = (
    "",
    "rows",
    "code points",
    "before",
    "after",
    "change, 95 %",
    "improved",
    "neutral",
    "worse",
    "worse at most",
)
KIND_TITLES = {"tone": "tone marks", "space": "word space", "letter": "letters"}
MAX_CONFUSIONS = 20
ResultBlock = dict[str, Any]


def loss_sections(course: LossCurve) -> list[PageSection]:
    """Return the loss section with restarts and best checkpoint; empty if no loss was recorded."""
    if not course.points:
        return []
    counted = [point for point in course.points if not point.lost]
    ends = [f"{of} {[p for p in counted if p.of == of][-1].loss:.4f}" for of in dict.fromkeys(p.of for p in counted)]
    lines: list[list[str | TableCell]] = [["last", str(max(p.step for p in counted)), ", ".join(ends)]]
    if course.best:
        lines.append(["best checkpoint", str(course.best.step), f"validation {course.best.loss:.4f}"])
    for number, each in enumerate(course.restarts, start=1):
        on = "" if each.checkpoint is None else f"; went on from step {each.checkpoint}"
        lines.append([f"restart {number}", str(each.step), each.what + on])
    sentences = {
        "Dashed vertical lines are restarts.": course.restarts,
        "Paler branches were gone over again.": len(counted) < len(course.points),
        "The ring is the best checkpoint.": course.best,
    }
    notes = [" ".join(sentence for sentence, holds in sentences.items() if holds)]
    says = f"loss by step; {len(course.restarts)} restarts; " + "; ".join(ends)
    table = PageTable(("", "step", ""), lines, prose=True)
    return [PageSection("loss", "Loss", notes, charts.loss_chart(course), says, table)]


def partition_section(groups: dict[str, ResultBlock], gate: float | None) -> PageSection:
    """Return CER by partition as dumbbells with counts and intervals."""
    groups, lines = sort_groups(groups), []
    for name, block in groups.items():
        before, after, bounds = block["cer_before"], block["cer_after"], block["cer_change_interval95"]
        low, high = (before + bounds[0], before + bounds[1]) if bounds and before is not None else (None, None)
        lines.append(Dumbbell(f"{name} ({block['rows']} rows)", before, after, low, high))
    notes = [GATE_NOTE, *(gate_note(gate))]
    says = "CER before and after by partition: " + "; ".join(
        f"{name} {format_rate(block['cer_before'])} to {format_rate(block['cer_after'])}"
        for name, block in groups.items()
    )
    table = group_table(groups)
    return PageSection("partition", "CER by partition", notes, charts.dumbbell_chart(lines, "CER", gate), says, table)


def gate_note(gate: float | None) -> list[str]:
    """Describe the dashed line, if there is one."""
    return [] if gate is None else [f"The dashed line is the gate that was asked for: CER {gate:g}."]


def sort_groups(groups: dict[str, ResultBlock]) -> dict[str, ResultBlock]:
    """Sort groups in their own order: files written for people have keys in alphabetical order."""
    return {name: groups[name] for name in sorted(groups, key=group_order)}


def group_table(groups: dict[str, ResultBlock]) -> PageTable:
    """Return counts and rates of groups, each with what its interval shows."""
    tones = {"better": "good", "worse": "bad"}
    lines: list[list[str | TableCell]] = []
    for name, block in groups.items():
        change = describe_change(block["cer_change"], block["cer_change_interval95"])
        lines.append([
            name, str(block["rows"]), str(block["reference_chars"]), format_rate(block["cer_before"]),
            format_rate(block["cer_after"]), format_interval(block["cer_change"], block["cer_change_interval95"]),
            *(str(block[count]) for count in ("improved", "neutral", "worse")),
            f"{block['worse_upper95']:.1%}", TableCell(change, tone=tones.get(change, "")),
        ])  # fmt: skip
    return PageTable((*GROUP_COLUMNS, "shown"), lines)


def rate_section(results: ResultBlock) -> PageSection:
    """Return the error rates in every unit."""
    lines = [
        [title, *(format_rate(results[name.format(when)]) for when in ("before", "after")),
         format_interval(results[name.format("change")], results[f"{name.format('change')}_interval95"])]
        for title, name in UNITS.items()
    ]  # fmt: skip
    return PageSection("rates", "Error rates", table=PageTable(("", "before", "after", "change, 95 %"), lines))


def group_sections(results: ResultBlock) -> list[PageSection]:
    """Return the tables by script, length and input error rate."""
    return [
        PageSection(name, title, table=group_table(sort_groups(results["by"][name])))
        for name, title in GROUP_TITLES.items()
        if results.get("by", {}).get(name)
    ]


def flag_section(results: ResultBlock) -> PageSection:
    """Return faults of proposals that need no reference, beside the base's if it answered too."""
    of_base = results.get("base", {}).get("flags")
    lines = [
        [name, str(results["flags"].get(name, 0)), *([str(of_base.get(name, 0))] if of_base else []), says]
        for name, says in FLAGS.items()
    ]
    head = ("", "proposals", *(["the base's"] if of_base else []), "what it says")
    title = "What is wrong with proposals, whatever the reference says"
    return PageSection("flags", title, table=PageTable(head, lines, prose=True))


def confusion_sections(confusions: Sequence[ClusterConfusion]) -> list[PageSection]:
    """Return the most frequent grapheme confusions, tone marks named separately; empty if there are none."""
    if not confusions:
        return []
    top = confusions[:MAX_CONFUSIONS]
    both = top[0].after is not None
    lines = [
        [TableCell(display_character(each.reference), letter=True),
         TableCell(display_character(each.hypothesis), letter=True),
         KIND_TITLES[each.kind], str(each.before),
         *([str(each.after), change_cell(each.before, each.after or 0)] if both else [])]
        for each in top
    ]  # fmt: skip
    head = ("wanted", "taken for", "kind", *(("before", "after", "change") if both else ("times",)))
    notes = [
        f"Wanted → taken for: the {len(top)} most frequent of {len(confusions)}, by grapheme cluster. ∅ "
        f"is nothing, ␣ a space, and a mark by itself stands on a dotted circle. {confusion_kind_table(confusions)}"
    ]
    says = f"the {len(top)} most frequent confusions of graphemes; the table below says the same"
    title = "Graphemes taken for others"
    return [PageSection("confusions", title, notes, charts.confusion_chart(top), says, PageTable(head, lines))]


def confusion_kind_table(confusions: Iterable[ClusterConfusion]) -> str:
    """How many confusions are of tone marks only, of word spaces, of letters, before and after."""
    confusions, parts = list(confusions), []
    for kind, title in KIND_TITLES.items():
        of_kind = [each for each in confusions if each.kind == kind]
        after = f" to {sum(each.after or 0 for each in of_kind)}" if of_kind and of_kind[0].after is not None else ""
        parts.append(f"{title} {sum(each.before for each in of_kind)}{after}")
    return f"In all: {', '.join(parts)}."


def change_cell(before: int, after: int) -> TableCell:
    """How a count changed; fewer is better."""
    return TableCell(f"{after - before:+d}", tone="good" if after < before else "bad" if after > before else "")
