"""From recordings to admissible text from Python, with the rows of every stage kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thunder import digest
from thunder.api.bridge_session import LOG_FILE, Bridge
from thunder.api.python_options import FilePath, given_options, input_paths
from thunder.api.recognition import OnRecording, recognize_recordings
from thunder.api.results import PYTHON, TranscribedRecording, TranscribeResult, Transcript
from thunder.bridge import proposers
from thunder.bridge.bridge_settings import SpeechSettings
from thunder.config import SettingsLayer, build_settings
from thunder.errors import UsageError
from thunder.evaluation import cases
from thunder.launcher.options.setting_paths import check_writable
from thunder.launcher.runs_folder import runs
from thunder.runs.records import run_record

if TYPE_CHECKING:
    from thunder.bridge.decisions import SignedDecision

TRANSCRIPTS, DECISIONS = "transcripts.jsonl", "decisions.jsonl"
SILENT = "silent"


def transcribe(
    inputs: FilePath | Sequence[FilePath], *, on_recording: OnRecording = lambda done, total: None, **options: Any
) -> TranscribeResult:
    """Hear recordings, let an adapter propose corrections, let the gate decide, sign what is admissible.

    The same as `thunder transcribe`; `recognize` writes down only what is heard.

    Args:
        inputs: audio files, folders, metadata.jsonl files; or one of these.
        on_recording: called with (recordings heard, recordings in all).
        **options: fields of `thunder.bridge.bridge_settings.SpeechSettings`: `run` names the recognizer,
            `adapter_path` the proposer, `dev_key=True` or `key_file` the key.

    Returns:
        One text a recording with its decision; `breaker` says why the batch as a whole was stopped, if it was.

    Raises:
        UsageError: an option cannot be used, or the folder holds other results.
        CorpusError: recordings cannot be read, and `keep_going` is not given.
        ModelError: the proposer's model or adapter cannot be used.
    """
    given = given_options(options) | {"inputs": input_paths(inputs)}
    settings, _ = build_settings(SpeechSettings, [SettingsLayer(PYTHON, given)])
    result = transcribe_recordings(settings, on_recording)
    if result.error:
        raise result.error
    return result


def transcribe_recordings(
    settings: SpeechSettings, on_recording: OnRecording, on_note: Callable[[str], None] = lambda text: None
) -> TranscribeResult:
    """Transcribe what the settings name; see `transcribe`. on_note: called with remarks for people."""
    # what can be wrong without a sound being heard is said first
    bridge = Bridge.from_settings(settings)
    folder = _make_folder(settings)
    bridge.settings = settings.model_copy(update={"log": settings.log or str(folder / LOG_FILE)})
    heard = recognize_recordings(settings, on_recording)
    for note in heard.notes:
        on_note(note)
    for fault in () if heard.error else heard.left_out:
        on_note(f"left out: {fault}")
    spoken = [cases.case_from_text(each.id, each.text, dict(each.row)) for each in heard.transcripts if each.text]
    bridge.row_ids = frozenset(case.row_id for case in spoken)
    with bridge:
        if bridge.log.repaired:
            on_note(f"{bridge.log.path}: {bridge.log.repaired}")
        decisions, breaker = bridge.propose_cases(spoken)
    lines = _decision_lines(heard.transcripts, decisions)
    results = {
        "kind": "transcribe",
        "recordings": len(heard.transcripts),
        **{name: sum(line["decision"] == name for line in lines) for name in ("accept", "reject", "keep", SILENT)},
        "admissible": sum(bool(line["token"]) for line in lines),
        "breaker": breaker,
        "rules_id": bridge.book.id,
        "log": str(bridge.log.path),
        "settings": settings.resolved(),
    }
    results = _write(folder, [dict(each.row) for each in heard.transcripts], lines, results)
    recordings = tuple(
        TranscribedRecording(
            line["id"], line["audio"], line["asr_text"], line["final_text"], line["decision"], line["token"]
        )
        for line in lines
    )
    return TranscribeResult(folder, recordings, breaker, tuple(lines), results, heard.error)


def _make_folder(settings: SpeechSettings) -> Path:
    """The folder to write to. Raises UsageError where it cannot be written, or holds other results."""
    folder = Path(settings.out).expanduser() if settings.out else run_record.new_run_name(runs(), "transcribe")
    check_writable(folder)
    if (folder / run_record.RESULTS).exists():
        raise UsageError(f"{folder}: holds the results of another command", fix="another --out")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _decision_lines(transcripts: Sequence[Transcript], decisions: Sequence[SignedDecision]) -> list[dict[str, Any]]:
    """A line for each recording, in their order; where nothing was heard there is nothing to decide."""
    decided = {each.case.row_id: proposers.decision_line(each) for each in decisions}
    silent = {"asr_text": "", "final_text": "", "decision": SILENT, "token": None}
    return [{"audio": each.audio} | (decided.get(each.id) or {"id": each.id} | silent) for each in transcripts]


def _write(
    folder: Path, rows: Sequence[dict[str, Any]], lines: Sequence[dict[str, Any]], results: dict[str, Any]
) -> dict[str, Any]:
    """Write the rows of each stage, then results.json with the files' digests; returns its content."""
    for name, each in ((TRANSCRIPTS, rows), (DECISIONS, lines)):
        text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in each)
        digest.write_atomically(folder / name, text)
    results = results | {"files": {name: digest.sha256_file(folder / name) for name in (TRANSCRIPTS, DECISIONS)}}
    digest.write_json(folder / run_record.RESULTS, results)
    return results
