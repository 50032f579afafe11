"""Is an adapter whole, trained, of this base, and the one that its checkpoint holds? Needs no MLX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thunder.errors import ModelError
from thunder.lora import adapter_files
from thunder.lora.adapter_files import WEIGHTS
from thunder.training.checkpoints import weights_check
from thunder.training.checkpoints.weights_check import WeightsCheck

ANSWERS = "answers"  # a check that takes the base, and MLX: made by thunder/evaluation/sample_answers.py
_UP = ".lora_b"  # begins at 0, and is the first to move


def check_adapter(
    folder: Path, base_sha256: str | None = None, recorded: Mapping[str, Any] | None = None, sha256: str | None = None
) -> list[WeightsCheck]:
    """Check an adapter's folder.

    base_sha256: of the base that it must be of. recorded, sha256: its tensors and its file as a manifest has them.
    """
    try:
        config = adapter_files.read_adapter_config(folder)
    except ModelError as error:
        return [WeightsCheck(folder.name, "adapter", "fault", error.message)]
    checks = weights_check.check_weights_file(folder / WEIGHTS, recorded, sha256)
    if checks[0].state == "ok":
        checks.append(_trained(folder / WEIGHTS))
    checks.append(_of_base(config, base_sha256))
    # a real adapter once answered with nothing but padding
    checks.append(
        WeightsCheck(WEIGHTS, ANSWERS, "skipped", "--probe asks the base with it; padding alone is no answer")
    )
    return checks


def _trained(path: Path) -> WeightsCheck:
    zero, of = weights_check.count_zero_tensors(path, _UP)
    if not of:
        return WeightsCheck(path.name, "trained", "skipped", f"it has no tensor *{_UP}")
    if zero == of:
        return WeightsCheck(path.name, "trained", "fault", f"all {of} tensors *{_UP} are 0: it changes nothing")
    return WeightsCheck(path.name, "trained", "ok", f"{of - zero} of {of} tensors *{_UP} are not 0")


def _of_base(config: Mapping[str, Any], base_sha256: str | None) -> WeightsCheck:
    ours = config.get("thunder")
    trained_on = ours.get("base_sha256") if isinstance(ours, dict) else None
    if not base_sha256:
        return WeightsCheck(WEIGHTS, "base", "skipped", "no base is named: --base FOLDER")
    if not trained_on:
        return WeightsCheck(WEIGHTS, "base", "skipped", "the adapter does not say what it was trained on")
    if trained_on != base_sha256:
        said = f"of another base: trained on {str(trained_on)[:12]}, not on {base_sha256[:12]}"
        return WeightsCheck(WEIGHTS, "base", "fault", said)
    return WeightsCheck(WEIGHTS, "base", "ok", base_sha256[:12])
