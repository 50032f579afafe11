"""What the functions of the Python API return: frozen dataclasses, each with the record that it was read from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thunder.errors import ThunderError
from thunder.runs.records.run_record import METRICS

PYTHON = "Python"  # where options of this API come from, in messages and plans


@dataclass(frozen=True)
class AdapterTest:
    """The test of base against adapter after training.

    cer_asr: of the recognized text as it is. cer_before, cer_after: with the base's and with the adapter's answers, in
    edits per code point of the reference. improved, unchanged, worse: rows.
    """

    rows: int
    cer_asr: float
    cer_before: float
    cer_after: float
    improved: int
    unchanged: int
    worse: int


@dataclass(frozen=True)
class TrainResult:
    """A finished training run.

    output_folder: what it made: an adapter, a base model, or a recognizer's head. losses, validation_losses: step ->
    mean loss per supervised token. test: of LoRA training with test rows. results: all of results.json.
    """

    kind: str
    run_folder: Path
    output_folder: Path
    steps: int
    epochs_begun: int
    tokens: int
    ranks: int
    losses: Mapping[int, float]
    validation_losses: Mapping[int, float]
    best_validation_loss: float | None
    best_step: int | None
    stopped_early: str | None
    test: AdapterTest | None
    results: Mapping[str, Any] = field(repr=False)


def train_result(kind: str, folder: Path, results: Mapping[str, Any]) -> TrainResult:
    """The result of a run from its folder and the content of its results.json."""
    losses: dict[int, float] = {}
    validation_losses: dict[int, float] = {}
    for line in (folder / METRICS).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)  # a resumed run may hold a step twice: the later line counts
        if "loss" in row:
            losses[row["step"]] = row["loss"]
        if "valid_loss" in row:
            validation_losses[row["step"]] = row["valid_loss"]
    test = results.get("test") if kind == "train" else None
    return TrainResult(
        kind=kind,
        run_folder=folder,
        output_folder=folder / OUTPUT_FOLDERS[kind],
        steps=results["steps"],
        epochs_begun=results["epochs_begun"],
        tokens=results["tokens"],
        ranks=results["ranks"],
        losses=losses,
        validation_losses=validation_losses,
        best_validation_loss=results.get("best_valid_loss"),
        best_step=results.get("best_step"),
        stopped_early=results.get("stopped_early"),
        test=AdapterTest(**{name: test[name] for name in AdapterTest.__dataclass_fields__}) if test else None,
        results=results,
    )


OUTPUT_FOLDERS = {"train": "adapters", "pretrain": "model", "asr": "model"}


@dataclass(frozen=True)
class EvaluationResult:
    """A finished evaluation. Its folder holds predictions.jsonl, results.json and report.html.

    cer_before, cer_after: edits per code point of the references, of the recognized and of the accepted texts.
    cer_change_interval: 95 % bootstrap interval of their difference. worse_upper: upper 95 % bound on the share of
    accepted proposals that make a row worse. results: all of results.json.
    """

    folder: Path
    rows: int
    accepted: int
    cer_before: float | None
    cer_after: float | None
    cer_change: float | None
    cer_change_interval: tuple[float, float] | None
    improved: int
    neutral: int
    worse: int
    worse_upper: float
    results: Mapping[str, Any] = field(repr=False)


def evaluation_result(folder: Path, results: Mapping[str, Any]) -> EvaluationResult:
    """The result of an evaluation from its folder and the content of its results.json."""
    interval = results["cer_change_interval95"]
    return EvaluationResult(
        folder=folder,
        cer_change_interval=tuple(interval) if interval else None,
        worse_upper=results["worse_upper95"],
        results=results,
        **{name: results[name] for name in ("rows", "accepted", "cer_before", "cer_after", "cer_change")},
        **{name: results[name] for name in ("improved", "neutral", "worse")},
    )


@dataclass(frozen=True)
class Transcript:
    """What a recognizer wrote down of one recording. text is empty where it heard nothing. row: all fields.

    confidence: mean probability of the text's labels, from 0 to 1.
    """

    id: str
    audio: str
    text: str
    row: Mapping[str, Any] = field(repr=False)
    confidence: float = 0.0


@dataclass(frozen=True)
class RecognitionResult:
    """Transcripts in the order of the recordings. left_out: recordings that could not be read, and why (at most 20).

    error: lists these; None if there are none, or if they were to be left out. notes: remarks on the inputs, such as
    the files of a folder that were passed over.
    """

    transcripts: tuple[Transcript, ...]
    left_out: tuple[str, ...]
    error: ThunderError | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BridgeDecision:
    """The gate's decision on one text.

    text: the proposal where decision is "accept", else the recognized text as it came. token: signed, where `text` is
    admissible without a person's look. reasons: rules that were broken. provenance_id: of the record in the log.
    """

    id: str
    recognized: str
    proposal: str
    text: str
    decision: str
    reasons: tuple[Mapping[str, Any], ...]
    edits: int
    confidence: float | None
    margin: float | None
    token: str | None
    provenance_id: str

    @property
    def admissible(self) -> bool:
        """Whether `text` may go on without a person's look."""
        return self.token is not None


def bridge_decision(line: Mapping[str, Any]) -> BridgeDecision:
    """A decision from a line of decisions.jsonl."""
    return BridgeDecision(
        id=line["id"],
        recognized=line["asr_text"],
        proposal=line["proposal"],
        text=line["final_text"],
        decision=line["decision"],
        reasons=tuple(line["reasons"]),
        edits=line["edits"],
        confidence=line["confidence"],
        margin=line["margin"],
        token=line["token"],
        provenance_id=line["provenance_id"],
    )


@dataclass(frozen=True)
class BridgeBatch:
    """Decisions on texts that went over the bridge together.

    breaker: why the batch as a whole was stopped: then nothing is admissible; None where it was not.
    """

    decisions: tuple[BridgeDecision, ...]
    breaker: str | None


@dataclass(frozen=True)
class TranscribedRecording:
    """One recording from sound to decision. decision: "silent" where nothing was heard, else the gate's."""

    id: str
    audio: str
    recognized: str
    text: str
    decision: str
    token: str | None


@dataclass(frozen=True)
class TranscribeResult:
    """Recordings from sound to admissible text. Its folder holds the rows of every stage.

    breaker: why the batch as a whole was stopped: then each text is as it was heard; None where it was not. results:
    all of results.json. error: lists recordings that could not be read; None if there are none, or if they were to be
    left out.
    """

    folder: Path
    recordings: tuple[TranscribedRecording, ...]
    breaker: str | None
    lines: tuple[Mapping[str, Any], ...] = field(repr=False)
    results: Mapping[str, Any] = field(repr=False)
    error: ThunderError | None = None


@dataclass(frozen=True)
class CorpusResult:
    """A corpus folder that was built. rows, cer: by part (train, valid, test). manifest: all of manifest.json."""

    folder: Path
    rows: Mapping[str, int]
    cer: Mapping[str, float]
    manifest: Mapping[str, Any] = field(repr=False)
