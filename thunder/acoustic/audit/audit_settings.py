"""Options of `thunder audit`, the audit of a recognizer with test-time training; importable without MLX."""

from __future__ import annotations

from typing import Literal

from thunder.config import Settings, option

SCOPE, PROBES = "Scope", "Probes"


class AuditSettings(Settings):
    """Options of `thunder audit`."""

    stage: Literal["eval", "pipeline", "both"] = option(
        "both", "eval: audit the test; pipeline: audit the training.", panel=SCOPE
    )
    features: list[str] = option([], "Feature folders (default: those of the run).", panel=SCOPE)
    rows: int = option(64, "Test utterances to probe, chosen by hash.", panel=PROBES, ge=4)
    batch_size: int = option(8, "Utterances per batch.", panel=PROBES, ge=2)
    updates: int = option(3, "Updates that the pipeline stage trains again, twice.", panel=PROBES, ge=1)
