"""What a training run is given: the task, its settings, the ranks, the record, and who listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from thunder.parallel.world import World
from thunder.runs.records.run_record import RunRecord
from thunder.training.loop_settings import NO_OVERRIDES, LoopSettings, RuntimeOverrides
from thunder.training.task import Task
from thunder.training.training_events import NO_CALLBACKS, CallbackList


@dataclass(frozen=True)
class TrainContext:
    """Everything that the loop and its callbacks share and that does not change while a run goes on.

    fingerprint: name -> digest of the run's inputs; a checkpoint with another fingerprint is refused.
    overrides: how this attempt is carried out. stop_requested: polled between updates.
    callbacks: those that the caller adds to the built-in ones.
    """

    task: Task
    settings: LoopSettings
    world: World
    record: RunRecord
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    overrides: RuntimeOverrides = NO_OVERRIDES
    stop_requested: Callable[[], bool] = lambda: False
    callbacks: CallbackList = NO_CALLBACKS

    @property
    def planned_ranks(self) -> int:
        """The ranks that the global batch is made for."""
        return self.overrides.ranks(self.world.size)

    @property
    def rows_at_once(self) -> int:
        """Rows that go through the model at once on each rank."""
        return self.overrides.rows_at_once(self.settings)

    @property
    def rows_per_update(self) -> int:
        """Rows of one optimizer update over all ranks."""
        return self.settings.batch_size * self.planned_ranks * self.settings.grad_accumulation_steps
