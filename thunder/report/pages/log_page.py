"""Build the page of a provenance log: the gate's decisions, their reasons and the resulting texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from thunder.bridge.proof import provenance
from thunder.bridge.proof.admissibility import text_digest
from thunder.bridge.proof.provenance import ChainState
from thunder.corpora.rows import chat_rows as corpus_rows
from thunder.errors import UsageError
from thunder.evaluation import cases
from thunder.evaluation.cases import Case
from thunder.evaluation.engines import Proposal
from thunder.evaluation.metrics import summary
from thunder.evaluation.metrics.judge import judge_proposal
from thunder.report import text_diff
from thunder.report.number_format import format_fact
from thunder.report.page_model import Page, RowView, TextLine
from thunder.report.pages import evaluation_page, gate_sections
from thunder.report.run_files import get_text
from thunder.text import distance
from thunder.text.row_fields import PARTITIONS, UNKNOWN

DECISION_KIND = "decision"
FINGERPRINT_FIELDS = ("rules_id", "base_digest", "adapter_digest", "prompt_digest", "decode_digest")
MAX_VALUES = 3
TEXTS = ("input", "proposal", "output", "reference")
LogRecord = dict[str, Any]
RowTexts = Mapping[str, tuple[str, str]]  # recognized text and reference by row id


def read_log_page(path: Path, rows: Path | None = None, gate: float | None = None) -> Page:
    """Build the page of a log, up to the first fault in its chain. rows: a file with texts and references, for a log
    without.

    Raises ArtifactError if the log cannot be read, UsageError if it has no decision, CorpusError if the rows cannot be
    read.
    """
    chain, read_records = ChainState(), []
    for so_far, record in provenance.read_records(path):
        chain = so_far
        if record is not None:
            read_records.append(record)
    absent = _chain_faults(path, chain)
    decisions = [
        record for record in read_records if record.get("kind", DECISION_KIND) == DECISION_KIND and "decision" in record
    ]
    if not decisions:
        raise UsageError(
            f"{path}: no line is a record of a decision{_first_fault(absent)}", fix="name a provenance.jsonl"
        )
    for record in read_records:
        if record.get("kind") == "torn":
            absent.append(f"a line was cut off once; its {record.get('bytes')} bytes are in {record.get('file')}")
    made = build_log_page(path.name, decisions, _read_texts(rows) if rows else {}, gate, absent)
    chain_text = f"{chain}, {chain.lines} lines; signatures are checked by thunder agp verify --log"
    return replace(made, facts=[("chain", chain_text), *made.facts])


def _chain_faults(path: Path, chain: ChainState) -> list[str]:
    """Return the fault of the chain; records after it are not shown."""
    if chain.fault:
        return [f"{path.name}: {chain}: line {chain.lines + 1} {chain.fault}; it and what follows are left out"]
    return [f"{path.name}: {chain}: {chain.torn} bytes after the last line end are left out"] if chain.torn else []


def _first_fault(absent: Sequence[str]) -> str:
    return f" ({absent[0]})" if absent else ""


def build_log_page(
    title: str, records: Sequence[LogRecord], texts: RowTexts, gate: float | None = None, absent: Sequence[str] = ()
) -> Page:
    """The page of decisions; texts stand in the records, or come beside them and must have the digests there."""
    records = [_with_texts(record, texts) for record in records]
    notes = [*absent, *_missing_texts(records)]
    rows = [_judge_record(record, place) for place, record in enumerate(records) if _can_judge(record)]
    counts = Counter(str(record["decision"]) for record in records)
    cards = [(str(counts[name]), name) for name in dict.fromkeys((*gate_sections.DECISIONS, *counts))]
    parts = gate_sections.decision_sections(records)
    if rows:
        results = summary.summarize_rows(rows)
        cards += evaluation_page.summary_cards(results)
        parts += evaluation_page.repair_sections(rows, results, gate)
    else:
        notes.append("no record has a reference: no CER and no confusions (--rows FILE gives them)")
    return Page(
        title=title,
        kind="Decisions of the gate",
        facts=_facts(records),
        cards=cards,
        absent=notes,
        sections=parts,
        rows=[_record_view(record, place) for place, record in enumerate(records)],
        rows_notes=["Without a reference a proposal is marked against the recognized text."],
    )


def _read_texts(path: Path) -> dict[str, tuple[str, str]]:
    return {row.row_id: (row.asr_text, row.reference) for row in corpus_rows.read_rows(path, references="empty").rows}


def record_row_id(record: Mapping[str, Any]) -> str:
    """Return the row of a decision."""
    return get_text(record, "row_id") or "unknown"


def _with_texts(record: LogRecord, texts: RowTexts) -> LogRecord:
    """Return a record with its available texts; `stranger` is set if the text beside it has another digest."""
    result = {name: value for name, value in record.items() if name not in TEXTS or isinstance(value, str)}
    if record_row_id(record) in texts:
        asr_text, reference = texts[record_row_id(record)]
        if get_text(record, "input_sha256") == text_digest(asr_text):
            result |= {"input": asr_text, "reference": reference}
        else:
            result["stranger"] = True
    return result


def _missing_texts(records: Sequence[LogRecord]) -> list[str]:
    """Return which texts cannot be shown, and why."""
    without = sum("proposal" not in record for record in records)
    strangers = [record_row_id(record) for record in records if "stranger" in record]
    notes = (
        [f"{without} of {len(records)} records have digests and no texts: no proposals of theirs"] if without else []
    )
    if strangers:
        few = ", ".join(strangers[:3]) + (", ..." if len(strangers) > 3 else "")
        notes.append(f"another text in --rows than was decided on, in {len(strangers)} of them ({few}): not compared")
    return notes


def _can_judge(record: LogRecord) -> bool:
    return all(isinstance(record.get(name), str) for name in ("input", "proposal", "reference"))


def _judge_record(record: LogRecord, place: int) -> dict[str, Any]:
    reference = record["reference"]
    partition = get_text(record, "partition")
    case = Case(
        place,
        record_row_id(record),
        record["input"],
        reference,
        (),
        partition if partition in PARTITIONS else UNKNOWN,
        get_text(record, "script") or cases.script_of_letters(reference),
        get_text(record, "evidence_class"),
    )
    return judge_proposal(case, Proposal(record["proposal"], accepted=record["decision"] == "accept"))


def _record_view(record: LogRecord, place: int) -> RowView:
    """A decision as it is shown: what was known, what came in, what was proposed, what went on."""
    lines, before, after, units = [], None, None, None
    recognized, proposal, reference = (record.get(name) for name in ("input", "proposal", "reference"))
    goes_on = record.get("output", proposal if record["decision"] == "accept" else recognized)
    if reference is not None:
        lines.append(TextLine("reference", text_diff.plain_segments(reference)))
        units = distance.count_errors("", reference.strip()).reference_chars
    if recognized is not None:
        against = recognized if reference is None else reference
        lines.append(TextLine("recognized", text_diff.diff_segments(recognized, against)))
        if proposal is not None:
            lines.append(TextLine("proposal", text_diff.diff_segments(proposal, against)))
        if reference is not None and goes_on is not None:
            before, after = (distance.edit_distance(text.strip(), reference.strip()) for text in (recognized, goes_on))
    outcome = "no reference" if before is None or after is None else evaluation_page.row_outcome(before, after)
    script = get_text(record, "script") or cases.script_of_letters(reference or recognized or "")
    return RowView(
        row_id=record_row_id(record), place=place, lines=lines, outcome=outcome, decision=str(record["decision"]),
        partition=get_text(record, "partition") or UNKNOWN, script=script, before=before, after=after, units=units,
        reasons=gate_sections.rule_names(record), details=gate_sections.reason_details(record),
        rtl=evaluation_page.is_right_to_left(script),
    )  # fmt: skip


def _facts(records: Sequence[LogRecord]) -> list[tuple[str, str]]:
    """What decided, each value once, as far as anybody reads."""
    facts = []
    for name in FINGERPRINT_FIELDS:
        values = list(dict.fromkeys(record[name] for record in records if isinstance(record.get(name), str)))
        shown = [format_fact(name, value)[1] for value in values[:MAX_VALUES]]
        # each row has a prompt of its own
        shown += [f"and {len(values) - MAX_VALUES} more"] if len(values) > MAX_VALUES else []
        facts += [(format_fact(name, "")[0], ", ".join(shown))] if values else []
    return facts
