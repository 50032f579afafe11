"""Check that an adapter is whole, trained, of a given base, and equal to that of its checkpoint. Needs no MLX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thunder.errors import ModelError
from thunder.lora import adapter_files
from thunder.lora.adapter_files import WEIGHTS
from thunder.training.checkpoints import weights_check
from thunder.training.checkpoints.weights_check import WeightsCheck

ANSWERS = "answers"  # a check that needs the base and MLX: thunder/evaluation/sample_answers.py runs it
_LORA_B = ".lora_b"  # starts at 0, and changes first


def check_adapter(
    folder: Path, base_sha256: str | None = None, recorded: Mapping[str, Any] | None = None, sha256: str | None = None
) -> list[WeightsCheck]:
    """Check an adapter's folder.

    base_sha256: of the base that it must have been trained on. recorded: its tensors in a manifest.
    sha256: that of its weights file in a manifest.
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
    zero, count = weights_check.count_zero_tensors(path, _LORA_B)
    if not count:
        return WeightsCheck(path.name, "trained", "skipped", f"it has no tensor *{_LORA_B}")
    if zero == count:
        return WeightsCheck(path.name, "trained", "fault", f"all {count} tensors *{_LORA_B} are 0: it changes nothing")
    return WeightsCheck(path.name, "trained", "ok", f"{count - zero} of {count} tensors *{_LORA_B} are not 0")


def _of_base(config: Mapping[str, Any], base_sha256: str | None) -> WeightsCheck:
    metadata = config.get("thunder")
    trained_on = metadata.get("base_sha256") if isinstance(metadata, dict) else None
    if not base_sha256:
        return WeightsCheck(WEIGHTS, "base", "skipped", "no base is named: --base FOLDER")
    if not trained_on:
        return WeightsCheck(WEIGHTS, "base", "skipped", "the adapter does not say what it was trained on")
    if trained_on != base_sha256:
        detail = f"of another base: trained on {str(trained_on)[:12]}, not on {base_sha256[:12]}"
        return WeightsCheck(WEIGHTS, "base", "fault", detail)
    return WeightsCheck(WEIGHTS, "base", "ok", base_sha256[:12])
