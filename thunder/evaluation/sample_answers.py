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
from thunder.training.checkpoints.weights_check import Check

ASKED = 4


def of_adapter(folder: Path, base: str | None = None) -> Check:
    """Ask an adapter's base, with it on, for corrections of shipped sample rows.

    base: folder or name of the base; by default the one that the adapter says it was trained on.
    """
    try:
        engine = engine_setup.of_model(base or _base_of(folder), str(folder), batch_size=ASKED)[0]
    except ModelError as error:
        return Check(WEIGHTS, ANSWERS, "skipped", error.message)
    rows = cases.read(EMBEDDED_DATA / "test.jsonl", ASKED).cases
    return judged([not proposal.special_only and bool(proposal.text.strip()) for proposal in engine.propose(rows)])


def judged(have_text: Sequence[bool]) -> Check:
    """A fault where no answer has any text."""
    if not any(have_text):
        said = f"all {len(have_text)} are empty, or nothing but pads and other special tokens"
        return Check(WEIGHTS, ANSWERS, "fault", said)
    return Check(WEIGHTS, ANSWERS, "ok", f"{sum(have_text)} of {len(have_text)} are text")


def _base_of(folder: Path) -> str | None:
    """The base that an adapter names; None is the one that is shipped."""
    config = json.loads((folder / adapter_files.CONFIG).read_text(encoding="utf-8"))
    ours = config.get("thunder")
    named = ours.get("model") if isinstance(ours, dict) else config.get("model")
    if named is None:
        raise ModelError(f"{folder}: it does not say what it was trained on", fix="--base FOLDER")
    return None if named == EMBEDDED_MODEL.name else str(named)
