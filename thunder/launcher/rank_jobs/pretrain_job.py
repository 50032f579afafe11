"""The rank's job of `thunder pretrain`: pretraining of the tiny base model."""

from __future__ import annotations

from pathlib import Path

from thunder import digest
from thunder.launcher.options import setting_paths
from thunder.launcher.rank_jobs.rank_setup import RankSetup, loop_results
from thunder.lora import open_text
from thunder.lora.lora_settings import PretrainSettings
from thunder.lora.pretraining import PretrainTask
from thunder.parallel import consistency
from thunder.runs.records import environment
from thunder.training.loop import train_loop


def pretrain_base(setup: RankSetup) -> None:
    """Pretrain; all ranks call it together.

    Raises ThunderError of the kind that the run failed with, Interrupted where it was asked to stop.
    """
    setup.begin_loading()
    settings = setup.read_settings(PretrainSettings)
    configuration, settings = settings.digest(), setting_paths.local_paths(settings)
    record, world = setup.record, setup.world
    task = PretrainTask(setup.overrides.for_task(settings), open_text.read_open_text(settings))
    fingerprint = {"configuration": configuration, "data": digest.sha256_json([*task.text.train, *task.text.heldout])}
    context = setup.context(task, settings, fingerprint)
    epochs = task.epochs(context.rows_per_update)
    consistency.check_consistency(world, fingerprint | environment.package_versions())
    record.log(
        f"{len(task.text.train)} lines in {task.rows} sequences, {len(task.text.heldout)} lines held out, "
        f"{task.text.excluded} left out as near correction rows; the run makes {epochs:.2f} epochs over the text"
    )
    state = train_loop(context)
    results = loop_results(state, context) | {"wraps": epochs * state.step / settings.total_updates}
    if record.main and settings.out and not setup.was_interrupted(state):
        task.save(Path(settings.out))
    setup.finish(results, state)
