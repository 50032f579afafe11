"""Compare the inputs of all ranks before the first step: job, configuration, data, base weights, versions."""

from __future__ import annotations

from collections.abc import Mapping

from thunder.errors import RunFailed
from thunder.parallel.collectives import gather_json
from thunder.parallel.world import World


def fingerprint_differences(fingerprints: list[Mapping[str, str]]) -> list[str]:
    """One line for each key whose value is not the same on every rank, with the value of each rank (pure)."""
    lines = []
    for key in sorted({key for fingerprint in fingerprints for key in fingerprint}):
        values = [fingerprint.get(key, "(absent)") for fingerprint in fingerprints]
        if len(set(values)) > 1:
            by_rank = ", ".join(f"rank {rank}: {value[:60]}" for rank, value in enumerate(values))
            lines.append(f"{key}: {by_rank}")
    return lines


def check_consistency(world: World, fingerprint: Mapping[str, str]) -> None:
    """Compare the fingerprints (key -> digest or version) of all ranks.

    Raises RunFailed on every rank, naming each key that differs and its value on each rank.
    """
    lines = fingerprint_differences(gather_json(world, {"job": f"{world.job:x}", **fingerprint}))
    if lines:
        raise RunFailed(
            "ranks disagree on their inputs:\n  " + "\n  ".join(lines),
            fix="bring the hosts to the same versions, data and weights, then start again",
        )
