"""How often a run goes over its training rows, and the most that it may."""

from __future__ import annotations

from thunder.errors import ConfigError


def planned(updates: int, rows: int, global_batch: int) -> float:
    """Passes over `rows` that so many updates make; as the loop counts them, a last short batch is an update too."""
    return updates / -(-rows // global_batch)


def refuse_more(wraps: float, most: int, iters: int) -> None:
    """Raise ConfigError where a run would go over its rows more often than `most` times."""
    if wraps > most:
        raise ConfigError(
            f"iters {iters} go over the training rows {wraps:.2f} times, more than max_wraps {most}",
            fix="fewer --iters, more rows, or a higher --max-wraps",
        )
