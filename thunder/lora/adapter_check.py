"""Is an adapter whole, trained, of this base, and the one that its checkpoint holds? Needs no MLX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thunder.errors import ModelError
from thunder.lora import adapter_files
from thunder.lora.adapter_files import WEIGHTS
from thunder.training.checkpoints import weights_check
from thunder.training.checkpoints.weights_check import Check

ANSWERS = "answers"  # a check that takes the base, and MLX: made by thunder/evaluation/sample_answers.py
_UP = ".lora_b"  # begins at 0, and is the first to move


def of_adapter(
    folder: Path, base_sha256: str | None = None, recorded: Mapping[str, Any] | None = None, sha256: str | None = None
) -> list[Check]:
    """Check an adapter's folder.

    base_sha256: of the base that it must be of. recorded, sha256: its tensors and its file as a manifest has them.
    """
    try:
        config = adapter_files.check(folder)
    except ModelError as error:
        return [Check(folder.name, "adapter", "fault", error.message)]
    checks = weights_check.of_file(folder / WEIGHTS, recorded, sha256)
    if checks[0].state == "ok":
        checks.append(_trained(folder / WEIGHTS))
    checks.append(_of_base(config, base_sha256))
    # a real adapter once answered with nothing but padding
    checks.append(Check(WEIGHTS, ANSWERS, "skipped", "--probe asks the base with it; padding alone is no answer"))
    return checks


def _trained(path: Path) -> Check:
    zero, of = weights_check.all_zero(path, _UP)
    if not of:
        return Check(path.name, "trained", "skipped", f"it has no tensor *{_UP}")
    if zero == of:
        return Check(path.name, "trained", "fault", f"all {of} tensors *{_UP} are 0: it changes nothing")
    return Check(path.name, "trained", "ok", f"{of - zero} of {of} tensors *{_UP} are not 0")


def _of_base(config: Mapping[str, Any], base_sha256: str | None) -> Check:
    ours = config.get("thunder")
    trained_on = ours.get("base_sha256") if isinstance(ours, dict) else None
    if not base_sha256:
        return Check(WEIGHTS, "base", "skipped", "no base is named: --base FOLDER")
    if not trained_on:
        return Check(WEIGHTS, "base", "skipped", "the adapter does not say what it was trained on")
    if trained_on != base_sha256:
        said = f"of another base: trained on {str(trained_on)[:12]}, not on {base_sha256[:12]}"
        return Check(WEIGHTS, "base", "fault", said)
    return Check(WEIGHTS, "base", "ok", base_sha256[:12])
