"""The rank's job of `thunder asr train`: training of an acoustic head, then the test of its best checkpoint."""

from __future__ import annotations

from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.dataset import utterances
from thunder.acoustic.training import ctc_run
from thunder.acoustic.training.ctc_task import AcousticTask
from thunder.launcher.options import setting_paths
from thunder.launcher.rank_jobs.rank_setup import RankSetup, loop_results
from thunder.parallel import consistency
from thunder.runs.records import environment
from thunder.training.loop import train_loop


def train_recognizer(setup: RankSetup) -> None:
    """Train and test; all ranks call it together.

    Raises ThunderError of the kind that the run failed with, Interrupted where it was asked to stop.
    """
    setup.begin_loading()
    settings = setup.read_settings(AcousticSettings)
    configuration, settings = settings.digest(), setting_paths.local_paths(settings)
    record, world = setup.record, setup.world
    prepared = utterances.prepare_dataset(settings, utterances.open_features(settings.features, settings.texts))
    fingerprint = {"configuration": configuration, "data": prepared.digest()}
    consistency.check_consistency(world, fingerprint | environment.package_versions())
    task = AcousticTask(
        setup.overrides.for_task(settings), prepared, ctc_run.broadcast_statistics(settings, prepared, world)
    )
    ctc_run.write_run_header(task, record)
    context = setup.context(task, settings, fingerprint)
    state = train_loop(context)
    results = loop_results(state, context)
    if not setup.was_interrupted(state):
        setup.begin_testing(min(len(prepared.test), settings.test_rows))
        setup.callbacks.reach_point("testing")
        results |= setup.test_results(
            lambda: ctc_run.test_best_checkpoint(task, record, world, setup.on_test_row),
            by_hand=f"./launch.sh asr eval --run {setup.folder.name}",
        )
    setup.finish(results, state)
