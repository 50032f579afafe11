"""Check that an adapter answers with text: some adapters answered with padding tokens only."""

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
    """Correct shipped sample rows with the adapter on its base.

    base: folder or name of the base; by default the one that the adapter names.
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
    """A fault where no answer has text."""
    if not any(have_text):
        text = f"all {len(have_text)} are empty, or only padding and other special tokens"
        return WeightsCheck(WEIGHTS, ANSWERS, "fault", text)
    return WeightsCheck(WEIGHTS, ANSWERS, "ok", f"{sum(have_text)} of {len(have_text)} are text")


def _recorded_base(folder: Path) -> str | None:
    """The base that an adapter names; None stands for the shipped one."""
    config = json.loads((folder / adapter_files.CONFIG).read_text(encoding="utf-8"))
    own = config.get("thunder")
    name = own.get("model") if isinstance(own, dict) else config.get("model")
    if name is None:
        raise ModelError(f"{folder}: it names no base model", fix="--base FOLDER")
    return None if name == EMBEDDED_MODEL.name else str(name)
