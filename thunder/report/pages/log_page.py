"""The page of a provenance log: what a gate decided, for which reasons, and which texts went on."""

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
from thunder.report.number_format import fact
from thunder.report.page_model import Line, Page, RowView
from thunder.report.pages import evaluation_page, gate_sections
from thunder.report.run_files import text_in
from thunder.text import distance
from thunder.text.row_fields import PARTITIONS, UNKNOWN

DECISION = "decision"
FINGERPRINT_FIELDS = ("rules_id", "base_digest", "adapter_digest", "prompt_digest", "decode_digest")
MOST_VALUES = 3
TEXTS = ("input", "proposal", "output", "reference")
Record = dict[str, Any]
Texts = Mapping[str, tuple[str, str]]  # recognised text and reference by row id


def read(path: Path, rows: Path | None = None, gate: float | None = None) -> Page:
    """The page of a log, as far as its chain holds. rows: a file with the texts and references, for a log without.

    Raises ArtifactError where the log cannot be read, UsageError where nothing in it is a decision, CorpusError where
    the rows cannot be read.
    """
    chain, found = ChainState(), []
    for so_far, record in provenance.read_records(path):
        chain = so_far
        if record is not None:
            found.append(record)
    absent = _not_whole(path, chain)
    decisions = [record for record in found if record.get("kind", DECISION) == DECISION and "decision" in record]
    if not decisions:
        raise UsageError(f"{path}: no line is a record of a decision{_and(absent)}", fix="name a provenance.jsonl")
    for record in found:
        if record.get("kind") == "torn":
            absent.append(f"a line was cut off once; its {record.get('bytes')} bytes are in {record.get('file')}")
    made = page(path.name, decisions, _texts(rows) if rows else {}, gate, absent)
    said = f"{chain}, {chain.lines} lines; signatures are checked by thunder agp verify --log"
    return replace(made, facts=[("chain", said), *made.facts])


def _not_whole(path: Path, chain: ChainState) -> list[str]:
    """What is wrong with the chain: nothing after that is shown."""
    if chain.fault:
        return [f"{path.name}: {chain}: line {chain.lines + 1} {chain.fault}; it and what follows are left out"]
    return [f"{path.name}: {chain}: {chain.torn} bytes after the last line end are left out"] if chain.torn else []


def _and(absent: Sequence[str]) -> str:
    return f" ({absent[0]})" if absent else ""


def page(
    title: str, records: Sequence[Record], texts: Texts, gate: float | None = None, absent: Sequence[str] = ()
) -> Page:
    """The page of decisions; texts stand in the records, or come beside them and must have the digests there."""
    records = [_whole(record, texts) for record in records]
    said = [*absent, *_texts_missing(records)]
    rows = [_judged(record, place) for place, record in enumerate(records) if _can_judge(record)]
    counts = Counter(str(record["decision"]) for record in records)
    cards = [(str(counts[name]), name) for name in dict.fromkeys((*gate_sections.DECISIONS, *counts))]
    parts = gate_sections.parts(records)
    if rows:
        results = summary.summarize_rows(rows)
        cards += evaluation_page.cards(results)
        parts += evaluation_page.repair(rows, results, gate)
    else:
        said.append("no record has a reference: no CER and no confusions (--rows FILE gives them)")
    return Page(
        title=title,
        kind="Decisions of the gate",
        facts=_facts(records),
        cards=cards,
        absent=said,
        sections=parts,
        rows=[_view(record, place) for place, record in enumerate(records)],
        rows_notes=["Without a reference a proposal is marked against the recognised text."],
    )


def _texts(path: Path) -> dict[str, tuple[str, str]]:
    return {row.row_id: (row.asr_text, row.reference) for row in corpus_rows.read_rows(path, references="empty").rows}


def row_id(record: Mapping[str, Any]) -> str:
    """The row that a decision is about."""
    return text_in(record, "row_id") or "unknown"


def _whole(record: Record, texts: Texts) -> Record:
    """A record with its texts as far as they are to be had; `stranger` where those beside it are others."""
    found = {name: value for name, value in record.items() if name not in TEXTS or isinstance(value, str)}
    if row_id(record) in texts:
        asr_text, reference = texts[row_id(record)]
        if text_in(record, "input_sha256") == text_digest(asr_text):
            found |= {"input": asr_text, "reference": reference}
        else:
            found["stranger"] = True
    return found


def _texts_missing(records: Sequence[Record]) -> list[str]:
    """Which texts cannot be shown, and why."""
    without = sum("proposal" not in record for record in records)
    strangers = [row_id(record) for record in records if "stranger" in record]
    said = [f"{without} of {len(records)} records have digests and no texts: no proposals of theirs"] if without else []
    if strangers:
        few = ", ".join(strangers[:3]) + (", ..." if len(strangers) > 3 else "")
        said.append(f"another text in --rows than was decided on, in {len(strangers)} of them ({few}): not compared")
    return said


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
        partition if partition in PARTITIONS else UNKNOWN,
        text_in(record, "script") or cases.script_of_letters(reference),
        text_in(record, "evidence_class"),
    )
    return judge_proposal(case, Proposal(record["proposal"], accepted=record["decision"] == "accept"))


def _view(record: Record, place: int) -> RowView:
    """A decision as it is shown: what was known, what came in, what was proposed, what went on."""
    lines, before, after, units = [], None, None, None
    asked, proposal, reference = (record.get(name) for name in ("input", "proposal", "reference"))
    goes_on = record.get("output", proposal if record["decision"] == "accept" else asked)
    if reference is not None:
        lines.append(Line("reference", text_diff.plain(reference)))
        units = distance.count_errors("", reference.strip()).reference_chars
    if asked is not None:
        against = asked if reference is None else reference
        lines.append(Line("recognised", text_diff.marked(asked, against)))
        if proposal is not None:
            lines.append(Line("proposal", text_diff.marked(proposal, against)))
        if reference is not None and goes_on is not None:
            before, after = (distance.edit_distance(text.strip(), reference.strip()) for text in (asked, goes_on))
    outcome = "no reference" if before is None or after is None else evaluation_page.outcome(before, after)
    script = text_in(record, "script") or cases.script_of_letters(reference or asked or "")
    return RowView(
        row_id=row_id(record), place=place, lines=lines, outcome=outcome, decision=str(record["decision"]),
        partition=text_in(record, "partition") or UNKNOWN, script=script, before=before, after=after, units=units,
        reasons=gate_sections.reasons(record), details=gate_sections.details(record),
        rtl=evaluation_page.direction(script),
    )  # fmt: skip


def _facts(records: Sequence[Record]) -> list[tuple[str, str]]:
    """What decided, each value once, as far as anybody reads."""
    found = []
    for name in FINGERPRINT_FIELDS:
        values = list(dict.fromkeys(record[name] for record in records if isinstance(record.get(name), str)))
        shown = [fact(name, value)[1] for value in values[:MOST_VALUES]]
        # each row has a prompt of its own
        shown += [f"and {len(values) - MOST_VALUES} more"] if len(values) > MOST_VALUES else []
        found += [(fact(name, "")[0], ", ".join(shown))] if values else []
    return found
