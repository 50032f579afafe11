"""The rank's job of `thunder train`: LoRA training, then the test of base against adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thunder.evaluation import adapter_comparison
from thunder.evaluation.decoding import batch_check
from thunder.launcher.options import setting_paths
from thunder.launcher.rank_jobs.rank_setup import RankSetup, loop_results
from thunder.lora import adapter_files, base_model, cache_warmup, datasets, prefix_cache
from thunder.lora.lora_settings import LoraSettings
from thunder.lora.lora_task import LoraTask
from thunder.lora.prompts.load_prompts import load_prompt_format
from thunder.lora.prompts.mlx_lm_prompt import check_generation_prompt
from thunder.lora.prompts.prompt_words import words_of_rows
from thunder.parallel import collectives, consistency
from thunder.runs.records import environment
from thunder.runs.records.run_record import RunRecord
from thunder.training.checkpoints import checkpoint
from thunder.training.loop import train_loop


def train_adapter(setup: RankSetup) -> None:
    """Train and test; all ranks call it together.

    Raises ThunderError of the kind that the run failed with, Interrupted where it was asked to stop.
    """
    setup.begin_loading()
    settings = setup.read_settings(LoraSettings)
    configuration, settings = settings.digest(), setting_paths.local_paths(settings)
    folder, record, world, overrides = setup.folder, setup.record, setup.world, setup.overrides
    planned_ranks = overrides.ranks(world.size)
    base = base_model.find_base_model(settings.model)
    prompts = load_prompt_format(base, template_kwargs=settings.template_kwargs)
    prepared = datasets.prepare_datasets(settings, prompts, planned_ranks)
    check_generation_prompt(base, prompts, prepared.rows.train)
    prompts.words = words_of_rows(prepared.rows.train)
    base_digest = base_model.base_digest(base, base_model.digest_cache_path())
    fingerprint = {"configuration": configuration, "data": prepared.rows.digest(), "base weights": base_digest}
    consistency.check_consistency(world, fingerprint | environment.package_versions())
    loaded = base_model.load_base_model(base)
    origin = {
        "model": settings.model or base.name,
        "base_sha256": base_digest,
        "data_sha256": prepared.rows.files,
        "run": folder.name,
    }
    batch_size = _test_batch_size(loaded, record) if prepared.rows.test else 1
    task_settings = overrides.for_task(settings)
    # the weights come from a checkpoint, be it another host's, and the file may be gone
    if any(collectives.gather_json(world, bool(checkpoint.checkpoint_folders(record.checkpoints)))):
        task_settings = task_settings.model_copy(update={"resume_adapter_file": None})
    task = LoraTask(loaded, task_settings, prepared.train.examples, prepared.valid.examples, origin, prompts)
    record.phase("filling the prefix cache")

    def on_filled() -> None:
        setup.callbacks.reach_point("filling")
        record.progress()

    cache_warmup.warm_up_cache(
        task, settings, world,
        base_digest=base_digest, ranks=planned_ranks, root=prefix_cache.prefix_cache_folder(), base=base,
        log=record.log, progress=on_filled,
    )  # fmt: skip
    context = setup.context(task, settings, fingerprint)
    state = train_loop(context)
    results = loop_results(state, context)
    interrupted = setup.was_interrupted(state)
    if record.main and settings.adapter_path and not interrupted:
        adapter_files.copy_adapter(folder / task.output, Path(settings.adapter_path))
    if prepared.rows.test and not interrupted:
        setup.begin_testing(len(prepared.rows.test))
        task.engine.restore_frozen(base)
        setup.callbacks.reach_point("testing")

        def test() -> dict[str, Any]:
            compared = adapter_comparison.compare_adapter_with_base(
                loaded, prompts, prepared.rows.test, world, folder, setup.on_test_row, batch_size, **settings.decoding
            )
            return {"test": compared}

        by_hand = f"./launch.sh eval --model {base} --adapter-path {folder / task.output} --rows ROWS --batch-size 1"
        results |= setup.test_results(test, by_hand)
    setup.finish(results, state)


def _test_batch_size(model: Any, record: RunRecord) -> int:
    """Rows that the test decodes together; tried before the first step, where it costs nothing to learn."""
    size, note = batch_check.usable_batch_size(model, adapter_comparison.TEST_BATCH)
    if note:
        record.log(f"note: {note}")
    return size
