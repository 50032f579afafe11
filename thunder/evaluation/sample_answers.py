"""Check that an adapter answers with text: some adapters answered with padding tokens only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from thunder.errors import ModelError
from thunder.evaluation import cases, engine_setup
from thunder.lora.adapter_check import ANSWERS
from thunder.lora.adapter_files import WEIGHTS
from thunder.lora.lora_settings import EMBEDDED_DATA
from thunder.training.checkpoints.weights_check import WeightsCheck

SAMPLE_ROWS = 4


def check_sample_answers(folder: Path, base: str | None = None) -> WeightsCheck:
    """Correct shipped sample rows with the adapter on its base.

    base: folder or name of the base; by default the one that the adapter names.
    """
    try:
        base = base or engine_setup.recorded_base(str(folder))
        engine, _ = engine_setup.load_model_engines(base, str(folder), batch_size=SAMPLE_ROWS)
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
