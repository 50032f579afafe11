"""Before the first step every rank must stand on the same ground: job, configuration, data, base weights, versions."""

from __future__ import annotations

from collections.abc import Mapping

from thunder.errors import RunFailed
from thunder.parallel.collectives import gather_json
from thunder.parallel.world import World


def differences(grounds: list[Mapping[str, str]]) -> list[str]:
    """One line for each key on which the ranks do not agree (pure)."""
    lines = []
    for key in sorted({key for ground in grounds for key in ground}):
        values = [ground.get(key, "(absent)") for ground in grounds]
        if len(set(values)) > 1:
            said = ", ".join(f"rank {rank}: {value[:60]}" for rank, value in enumerate(values))
            lines.append(f"{key}: {said}")
    return lines


def agree(world: World, ground: Mapping[str, str]) -> None:
    """Compare every rank's ground (key -> digest or version).

    Raises RunFailed on every rank, naming each key that differs and its value on each rank.
    """
    lines = differences(gather_json(world, {"job": f"{world.job:x}", **ground}))
    if lines:
        raise RunFailed(
            "the ranks do not stand on the same ground:\n  " + "\n  ".join(lines),
            fix="bring the hosts to the same versions, data and weights, then start again",
        )
