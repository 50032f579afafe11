"""Options of `thunder audit`, the audit of a recognizer with test-time training; importable without MLX."""

from __future__ import annotations

from typing import Literal

from thunder.config import Settings, option

WHAT, HOW = "What is audited", "How"


class AuditSettings(Settings):
    """Options of `thunder audit`."""

    stage: Literal["eval", "pipeline", "both"] = option(
        "both", "eval: how it was tested; pipeline: how its weights came about.", panel=WHAT
    )
    features: list[str] = option([], "Feature folders (default: those of the run).", panel=WHAT)
    rows: int = option(64, "Test utterances to probe, chosen by hash.", panel=HOW, ge=4)
    batch_size: int = option(8, "Utterances at once.", panel=HOW, ge=2)
    updates: int = option(3, "Updates that the pipeline stage trains anew, twice.", panel=HOW, ge=1)
