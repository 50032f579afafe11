"""The learning rate as a pure function of the update's number, so that resuming needs no state."""

from __future__ import annotations

import math

from thunder.training.loop_settings import LoopSettings


def learning_rate(update: int, settings: LoopSettings) -> float:
    """Rate of update 1, 2, ...: linear warm-up, then decay to `lr_final` of the peak at the last update."""
    peak, warmup, total = settings.learning_rate, settings.warmup, settings.total_updates
    if update <= warmup:
        return peak * update / warmup
    progress = (update - warmup) / max(1, total - warmup)
    progress = min(1.0, progress)
    left = 1 - progress if settings.lr_scheduler_type == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return peak * (settings.lr_final + (1 - settings.lr_final) * left)
