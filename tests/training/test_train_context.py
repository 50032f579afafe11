"""The numbers of a run's context: rows of an update over the planned ranks, however an attempt is carried out."""

from __future__ import annotations

import pytest

from thunder.parallel.world import World
from thunder.runs.records.run_record import RunRecord
from thunder.training.loop_settings import LoopSettings, RuntimeOverrides
from thunder.training.train_context import TrainContext


@pytest.mark.parametrize(
    ("ranks", "overrides", "planned_ranks", "rows_at_once"),
    [
        (2, RuntimeOverrides(), 2, 4),
        (1, RuntimeOverrides(planned_ranks=2), 2, 4),
        (1, RuntimeOverrides(planned_ranks=2, micro_batch_size=1, grad_checkpoint=True), 2, 1),
        (2, RuntimeOverrides(micro_batch_size=3), 2, 3),
    ],
)
def test_an_update_has_the_same_rows_however_it_is_carried_out(tmp_path, ranks, overrides, planned_ranks, rows_at_once):
    settings = LoopSettings(batch_size=4, grad_accumulation_steps=3)
    context = TrainContext(None, settings, World(0, ranks), RunRecord(tmp_path), overrides=overrides)
    assert (context.planned_ranks, context.rows_at_once) == (planned_ranks, rows_at_once)
    assert context.rows_per_update == 2 * 4 * 3
    assert context.stop_requested() is False and context.callbacks.callbacks == ()
