"""`thunder transcribe`: from recordings to admissible text in one command, the rows of every stage kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thunder import digest
from thunder.bridge.bridge_settings import SpeechSettings
from thunder.bridge.proof import keys
from thunder.cli.commands.speech.asr_transcribe import heard
from thunder.cli.console.output import say
from thunder.cli.console.plan_and_progress import talk
from thunder.cli.parsing.flags import AsJson, ConfigFile, flags
from thunder.config import build_settings
from thunder.errors import GateError, UsageError
from thunder.launcher import job_runner
from thunder.launcher.options import setting_paths
from thunder.launcher.options.setting_layers import file_and_flags
from thunder.runs.records import run_record
from thunder.units import format_path

if TYPE_CHECKING:
    from thunder.bridge.decisions import SignedDecision

app = typer.Typer(add_completion=False)
HEARD, DECIDED, LOG = "transcripts.jsonl", "decisions.jsonl", "provenance.jsonl"
SILENT = "silent"

Files = Annotated[
    list[Path] | None, typer.Argument(help="Audio files, folders, metadata.jsonl files.", show_default=False)
]


@app.command()
@flags(SpeechSettings)
def transcribe(
    files: Files = None, config: ConfigFile = None, as_json: AsJson = False, *, given: dict[str, Any]
) -> None:
    """Hear recordings, let an adapter propose corrections, let the gate decide, sign what is admissible.

    Exit code 3 where the batch as a whole was stopped: then every text is as it was heard, and nothing is admissible.
    """
    if files:
        given = given | {"inputs": [*map(str, files), *given.get("inputs", [])]}
    settings, _ = build_settings(SpeechSettings, file_and_flags(SpeechSettings, config, given))
    from thunder.bridge import proposers
    from thunder.bridge.proof.provenance import ProvenanceLog
    from thunder.evaluation import cases

    # what can be wrong without a sound being heard is said first
    proposers.check_engine_options(settings)
    book, ring = proposers.load_rulebook(settings), keys.choose_key_ring(settings.key_file, settings.dev_key)
    folder = _folder(settings)
    rows = heard(settings)
    spoken = [row for row in rows if row["asr_text"]]
    with ProvenanceLog(Path(settings.log).expanduser() if settings.log else folder / LOG, ring) as log:
        if log.repaired:
            talk.print(f"{log.path}: {log.repaired}", markup=False)
        asked = [cases.case_from_text(row["feat_id"], row["asr_text"], row) for row in spoken]
        engine = proposers.load_proposer(settings, frozenset(case.row_id for case in asked))
        decisions, why = proposers.propose_and_decide(asked, engine, book, ring, log, texts=settings.log_texts)
    lines = _lines(rows, decisions)
    results = {
        "kind": "transcribe",
        "recordings": len(rows),
        **{name: sum(line["decision"] == name for line in lines) for name in ("accept", "reject", "keep", SILENT)},
        "admissible": sum(bool(line["token"]) for line in lines),
        "breaker": why,
        "rules_id": book.id,
        "log": str(log.path),
        "settings": settings.resolved(),
    }
    _write(folder, rows, lines, results)
    for line in lines:
        signed = "admissible" if line["token"] else "not admissible"
        say(json.dumps(line, ensure_ascii=False) if as_json else
            f"{line['audio']}\t{line['final_text']}\t{line['decision']}\t{signed}")  # fmt: skip
    talk.print(f"rows of every stage: {format_path(folder)}", markup=False)
    if why:
        raise GateError(f"the batch was stopped: {why}", fix=f"look at {folder / DECIDED} before anything is taken")


def _folder(settings: SpeechSettings) -> Path:
    """The folder to write to. Raises UsageError where it cannot be written, or holds other transcripts."""
    folder = (
        Path(settings.out).expanduser() if settings.out else run_record.new_run_name(job_runner.runs(), "transcribe")
    )
    setting_paths.check_writable(folder)
    if (folder / run_record.RESULTS).exists():
        raise UsageError(f"{folder}: holds the results of another command", fix="another --out")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _lines(rows: Sequence[dict[str, Any]], decisions: Sequence[SignedDecision]) -> list[dict[str, Any]]:
    """A line for each recording, in their order; where nothing was heard there is nothing to decide."""
    from thunder.bridge import proposers

    decided = {each.case.row_id: proposers.decision_line(each) for each in decisions}
    silent = {"asr_text": "", "final_text": "", "decision": SILENT, "token": None}
    return [{"audio": row["audio"]} | (decided.get(row["feat_id"]) or {"id": row["feat_id"]} | silent) for row in rows]


def _write(
    folder: Path, rows: Sequence[dict[str, Any]], lines: Sequence[dict[str, Any]], results: dict[str, Any]
) -> None:
    """The rows of each stage, then results.json with the files' digests."""
    for name, each in ((HEARD, rows), (DECIDED, lines)):
        text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in each)
        digest.write_atomically(folder / name, text)
    files = {name: digest.sha256_file(folder / name) for name in (HEARD, DECIDED)}
    digest.write_json(folder / run_record.RESULTS, results | {"files": files})
