"""Does an adapter answer with text? A few corrections are asked of its base with it: a real one said pads alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from thunder.errors import ModelError
from thunder.evaluation import cases, engine_setup
from thunder.lora import adapter_files
from thunder.lora.adapter_check import ANSWERS
from thunder.lora.adapter_files import WEIGHTS
from thunder.lora.lora_settings import EMBEDDED_DATA, EMBEDDED_MODEL
from thunder.training.checkpoints.weights_check import WeightsCheck

SAMPLE_ROWS = 4


def check_sample_answers(folder: Path, base: str | None = None) -> WeightsCheck:
    """Ask an adapter's base, with it on, for corrections of shipped sample rows.

    base: folder or name of the base; by default the one that the adapter says it was trained on.
    """
    try:
        engine = engine_setup.load_model_engines(base or _recorded_base(folder), str(folder), batch_size=SAMPLE_ROWS)[0]
    except ModelError as error:
        return WeightsCheck(WEIGHTS, ANSWERS, "skipped", error.message)
    rows = cases.read_cases(EMBEDDED_DATA / "test.jsonl", SAMPLE_ROWS).cases
    return answers_check(
        [not proposal.special_only and bool(proposal.text.strip()) for proposal in engine.propose(rows)]
    )


def answers_check(have_text: Sequence[bool]) -> WeightsCheck:
    """A fault where no answer has any text."""
    if not any(have_text):
        said = f"all {len(have_text)} are empty, or nothing but pads and other special tokens"
        return WeightsCheck(WEIGHTS, ANSWERS, "fault", said)
    return WeightsCheck(WEIGHTS, ANSWERS, "ok", f"{sum(have_text)} of {len(have_text)} are text")


def _recorded_base(folder: Path) -> str | None:
    """The base that an adapter names; None is the one that is shipped."""
    config = json.loads((folder / adapter_files.CONFIG).read_text(encoding="utf-8"))
    ours = config.get("thunder")
    named = ours.get("model") if isinstance(ours, dict) else config.get("model")
    if named is None:
        raise ModelError(f"{folder}: it does not say what it was trained on", fix="--base FOLDER")
    return None if named == EMBEDDED_MODEL.name else str(named)
