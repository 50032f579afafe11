"""The state of a run between updates, and the result of one update."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class StepResult:
    """The numbers of one update.

    loss: mean per supervised token over all ranks. tokens: supervised tokens over all ranks. grad_norm: L2 norm before
    clipping. stop: whether any rank was asked to stop.
    """

    loss: float
    tokens: int
    learning_rate: float
    grad_norm: float
    stop: bool


@dataclass
class TrainState:
    """The progress of a run. A checkpoint holds all fields except the last two. `step` counts optimizer updates."""

    step: int = 0
    epoch: int = 0
    tokens: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    validation: dict[str, float] = field(default_factory=dict)
    validated_at: int | None = None
    validations_without_gain: int = 0
    stopped_early: str = ""
    speeds: list[float] = field(default_factory=list)
    asked_to_stop: bool = False
    result: StepResult | None = None
