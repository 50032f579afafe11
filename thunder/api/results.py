"""What the functions of the Python API return: frozen dataclasses, each with the record that it was read from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thunder.runs.records.run_record import METRICS


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
