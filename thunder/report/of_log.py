"""The page of a provenance log: what a gate decided, for which reasons, and which texts went on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.corpora import rows as corpus_rows
from thunder.errors import UsageError
from thunder.evaluation import cases, summary
from thunder.evaluation.cases import PARTITIONS, Case
from thunder.evaluation.engines import Proposal
from thunder.evaluation.judge import judged
from thunder.report import charts, marks, of_evaluation
from thunder.report.figures import fact
from thunder.report.page import Line, Page, RowView, Section, Table
from thunder.report.reading import Folder, text_in
from thunder.text import distance

DECISIONS = ("accept", "reject", "keep")
GROUND = ("rules_id", "base_digest", "adapter_digest", "prompt_digest", "decode_digest", "kid", "engine")
TEXTS = {"input": ("input", "asr_text"), "proposal": ("proposal",), "output": ("output", "final_text")}
Record = dict[str, Any]
Texts = Mapping[str, tuple[str, str]]  # recognised text and reference by row id


def read(path: Path, rows: Path | None = None, gate: float | None = None) -> Page:
    """The page of a log. rows: a file with the texts and references, for a log that has none.

    Raises UsageError where no line is a record of a decision, CorpusError where the rows cannot be read.
    """
    folder = Folder(path.parent)
    lines = folder.lines(path.name, "there is nothing to show")
    found = [line["record"] for line in lines if isinstance(line.get("record"), dict)]
    decisions = [record for record in found if "decision" in record]
    if not decisions:
        raise UsageError(f"{path}: no line is a record of a decision", fix="name a provenance.jsonl, or a run's folder")
    others = len(lines) - len(decisions)
    if others:
        folder.absent.append(f"{path.name}: {others} lines are no record of a decision: left out")
    folder.absent.append(f"whether the chain is whole was not looked at: thunder agp verify --log {path}")
    texts = _texts(rows) if rows else {}
    return page(path.name, decisions, texts, gate, folder.absent)


def page(
    title: str, records: Sequence[Record], texts: Texts, gate: float | None = None, absent: Sequence[str] = ()
) -> Page:
    """The page of decisions; texts stand in the records, or come beside them and must have the digests there."""
    said = list(absent)
    records = [_whole(record, texts, said) for record in records]
    without = sum("input" not in record or "proposal" not in record for record in records)
    if without:
        said.append(f"{without} of {len(records)} records have digests and no texts: --rows FILE gives them")
    rows = [_judged(record, place) for place, record in enumerate(records) if _can_judge(record)]
    counts = Counter(str(record["decision"]) for record in records)
    cards = [(str(counts[name]), name) for name in dict.fromkeys((*DECISIONS, *counts))]
    parts = [_decisions(records), *_reasons(records)]
    if rows:
        results = summary.summarise(rows)
        cards += of_evaluation.cards(results)
        parts += of_evaluation.repair(rows, results, gate)
    else:
        said.append("no record has a reference: no CER and no confusions (--rows FILE gives them)")
    return Page(
        title=title,
        kind="Decisions of the gate",
        facts=_facts(records),
        cards=cards,
        absent=list(dict.fromkeys(said)),
        sections=parts,
        rows=[_view(record, place) for place, record in enumerate(records)],
        rows_notes=["Without a reference a proposal is marked against the recognised text."],
    )


def _texts(path: Path) -> dict[str, tuple[str, str]]:
    return {row.row_id: (row.asr_text, row.reference) for row in corpus_rows.read(path, empty_references=True).rows}


def row_id(record: Mapping[str, Any]) -> str:
    """The row that a decision is about."""
    return text_in(record, "row_id", "feat_id", "request_id") or "unknown"


def _whole(record: Record, texts: Texts, said: list[str]) -> Record:
    """A record with its texts under one name each, as far as they are to be had and are those that were decided on."""
    found = dict(record)
    for name, keys in TEXTS.items():
        if (text := text_in(record, *keys)) is not None:
            found[name] = text
    reference = text_in(record, "reference", "reference_text")
    if row_id(record) in texts:
        asr_text, reference = texts[row_id(record)]
        wanted = text_in(record, "input_sha256")
        if wanted and wanted != digest.of_bytes(asr_text.encode(errors="replace")):
            said.append(f"row {row_id(record)}: the text of --rows is not the one that was decided on: left out")
            reference = None
        else:
            found.setdefault("input", asr_text)
    if reference is not None:
        found["reference"] = reference
    if record["decision"] != "accept" and "input" in found:
        found.setdefault("proposal", found["input"] if record["decision"] == "keep" else "")
    return found


def _can_judge(record: Record) -> bool:
    return all(isinstance(record.get(name), str) for name in ("input", "proposal", "reference"))


def _judged(record: Record, place: int) -> dict[str, Any]:
    reference = record["reference"]
    partition = text_in(record, "partition")
    case = Case(
        place,
        row_id(record),
        record["input"],
        reference,
        (),
        partition if partition in PARTITIONS else cases.UNKNOWN,
        text_in(record, "script") or cases.script_of(reference),
        text_in(record, "evidence_class"),
    )
    return judged(case, Proposal(record["proposal"], accepted=record["decision"] == "accept"))


def _view(record: Record, place: int) -> RowView:
    """A decision as it is shown: what was known, what came in, what was proposed, what went on."""
    lines, before, after, units = [], None, None, None
    asked, proposal, reference = (record.get(name) for name in ("input", "proposal", "reference"))
    goes_on = record.get("output") or (proposal if record["decision"] == "accept" else asked)
    if reference is not None:
        lines.append(Line("reference", marks.plain(reference)))
        units = distance.count("", reference.strip()).reference_chars
    if asked is not None:
        against = asked if reference is None else reference
        lines.append(Line("recognised", marks.marked(asked, against)))
        if proposal is not None:
            lines.append(Line("proposal", marks.marked(proposal, against)))
        if reference is not None:
            before = distance.edits(asked.strip(), reference.strip())
            after = distance.edits((goes_on or "").strip(), reference.strip())
    outcome = "no reference" if before is None or after is None else of_evaluation.outcome(before, after)
    script = text_in(record, "script") or cases.script_of(reference or asked or "")
    return RowView(
        row_id=row_id(record), place=place, lines=lines, outcome=outcome,
        partition=text_in(record, "partition") or "unknown", script=script, before=before, after=after, units=units,
        decision=str(record["decision"]), reasons=reasons(record), rtl=of_evaluation.direction(script),
    )  # fmt: skip


def reasons(record: Mapping[str, Any]) -> list[str]:
    """The names of the rules that a decision gives as reasons, however they are written down."""
    found = record.get("reasons")
    names = []
    for each in found if isinstance(found, list) else []:
        name = each.get("rule") if isinstance(each, dict) else each[0] if isinstance(each, list) and each else each
        names.append(str(name))
    return names


def _decisions(records: Sequence[Record]) -> Section:
    """How many were accepted, rejected and kept, by partition."""
    counts = Counter((text_in(record, "partition") or "unknown", str(record["decision"])) for record in records)
    places = sorted({name for name, _ in counts}, key=lambda name: (summary.place(name), name))
    kinds = list(dict.fromkeys((*DECISIONS, *(kind for _, kind in counts))))
    lines = [[place, *(str(counts[place, kind]) for kind in kinds)] for place in places]
    says = "; ".join(f"{place}: {', '.join(f'{kind} {counts[place, kind]}' for kind in kinds)}" for place in places)
    values = [(place, kind, counts[place, kind]) for place in places for kind in kinds]
    return Section(
        "decisions", "Decisions by partition", (), charts.stacked(values, kinds, "decisions"),
        f"decisions by partition; {says}", Table(("", *kinds), lines),
    )  # fmt: skip


def _reasons(records: Sequence[Record]) -> list[Section]:
    """How often each rule was a reason; nothing where there is none."""
    counts = Counter(name for record in records for name in dict.fromkeys(reasons(record)))
    if not counts:
        return []
    lines = counts.most_common()
    table = Table(("rule", "decisions"), [[name, str(count)] for name, count in lines])
    says = "; ".join(f"{name} {count}" for name, count in lines)
    notes = ["A decision can have several reasons; all of them are counted."]
    return [Section("reasons", "Reasons", notes, charts.counts(lines, "decisions"), f"reasons; {says}", table)]


def _facts(records: Sequence[Record]) -> list[tuple[str, str]]:
    """What decided, each value that occurs once."""
    found = []
    for name in GROUND:
        values = dict.fromkeys(record[name] for record in records if isinstance(record.get(name), str))
        found += [(fact(name, "")[0], ", ".join(fact(name, value)[1] for value in values))] if values else []
    return found
