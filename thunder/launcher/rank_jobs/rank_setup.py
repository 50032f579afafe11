"""What every job of a rank is given, and what all training jobs do in the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thunder.config import SettingsLayer, SettingsType, build_settings, load_yaml, with_values_before
from thunder.errors import Interrupted
from thunder.parallel.gathered_work import WorkFailed
from thunder.parallel.world import World
from thunder.runs.records import environment
from thunder.runs.records.run_record import CONFIG, RunRecord
from thunder.training.loop_settings import LoopSettings, RuntimeOverrides
from thunder.training.state import TrainState
from thunder.training.task import Task
from thunder.training.train_context import TrainContext
from thunder.training.training_events import CallbackList


@dataclass(frozen=True)
class RankSetup:
    """One rank of a run: its folder and record, the ring, how to ask whether to stop, and who listens."""

    folder: Path
    record: RunRecord
    world: World
    stop_requested: Callable[[], bool]
    overrides: RuntimeOverrides
    callbacks: CallbackList

    def begin_loading(self) -> None:
        """Report the phase in which data and model are loaded."""
        self.record.phase("loading")
        self.callbacks.reach_point("loading")

    def begin_testing(self, rows: int) -> None:
        """Report the phase in which the result of training is tested."""
        self.record.phase("testing", rows=rows)

    def read_settings(self, kind: type[SettingsType]) -> SettingsType:
        """The settings in the run's config.yaml. Raises ConfigError where they cannot be used."""
        path = self.folder / CONFIG
        return build_settings(kind, [SettingsLayer(str(path), with_values_before(kind, load_yaml(path)))])[0]

    def context(self, task: Task, settings: LoopSettings, fingerprint: Mapping[str, str]) -> TrainContext:
        """What the training loop is given."""
        return TrainContext(
            task, settings, self.world, self.record, fingerprint, self.overrides, self.stop_requested, self.callbacks
        )

    def was_interrupted(self, state: TrainState) -> bool:
        """Whether the user asked this rank or another one to stop."""
        return self.stop_requested() or state.asked_to_stop

    def on_test_row(self, done: int, total: int) -> None:
        """Report a tested row. Raises Interrupted where the user asks to stop."""
        self.record.event("test", done=done, total=total)
        if self.stop_requested():
            raise Interrupted("in the test, after training", fix=f"./launch.sh resume {self.folder.name}")

    def test_results(self, test: Callable[[], Mapping[str, Any]], by_hand: str) -> Mapping[str, Any]:
        """What the test at the end adds to the results; where it fails, `test_fault`, since the training is done.

        by_hand: the command that tests the finished run.
        """
        try:
            return test()
        except WorkFailed as error:
            self.record.log(f"warning: the test failed, the trained weights are kept: {error.message}")
            self.record.log(f"to test them: {by_hand}")
            return {"test_fault": error.message}

    def finish(self, results: Mapping[str, Any], state: TrainState) -> None:
        """Write the results. Raises Interrupted instead where the user asked to stop."""
        if self.was_interrupted(state):
            step = state.step
            where = f"at step {step}, with a checkpoint" if step else "before step 1; no checkpoint was written"
            raise Interrupted(where, fix=f"./launch.sh resume {self.folder.name}")
        self.record.finish(results)


def loop_results(state: TrainState, context: TrainContext) -> dict[str, Any]:
    """The part of results.json that every training job has."""
    settings, overrides = context.settings, context.overrides
    return {
        "steps": state.step,
        "iterations": state.step * settings.grad_accumulation_steps,
        "epochs_begun": state.epoch + 1 if state.step else 0,
        "tokens": state.tokens,
        "ranks": context.world.size,
        "planned_ranks": context.planned_ranks,
        "blas": environment.blas_name(),
        "batch_size_per_rank": settings.batch_size,
        "micro_batch_size": context.rows_at_once,
        "grad_checkpoint": settings.grad_checkpoint or overrides.grad_checkpoint,
        "global_batch_size": settings.batch_size * context.planned_ranks,
        "best_valid_loss": state.best_loss,
        "best_step": state.best_step,
        "balance": settings.balance,
        "speeds": state.speeds,
        "validation": state.validation,
        "stopped_early": state.stopped_early or None,
    }
