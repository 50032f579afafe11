"""An acoustic run around the training loop: shared statistics, files before step 1, and the final test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlx.utils import tree_flatten

from thunder import digest
from thunder.acoustic import labels
from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.dataset import utterances
from thunder.acoustic.dataset.utterances import AcousticDataset
from thunder.acoustic.head import head_file
from thunder.acoustic.inference import result_files
from thunder.acoustic.inference.recognizer import Recognizer
from thunder.acoustic.training.ctc_task import AcousticTask
from thunder.acoustic.trajectory import training_statistics
from thunder.acoustic.trajectory.training_statistics import TrainingStatistics
from thunder.parallel import collectives
from thunder.parallel.gathered_work import gather_work
from thunder.parallel.world import World
from thunder.runs.records.run_record import METRICS, RunRecord
from thunder.training.checkpoints.checkpoint import BEST


def broadcast_statistics(settings: AcousticSettings, dataset: AcousticDataset, world: World) -> TrainingStatistics:
    """Compute the statistics on rank 0 and send them to every rank: two chips can round k-means differently."""
    payload = (
        training_statistics.fit_statistics(settings, dataset.features, dataset.train).to_bytes()
        if world.is_main
        else None
    )
    return TrainingStatistics.from_bytes(collectives.broadcast_bytes(world, 0, payload))


def write_run_header(task: AcousticTask, record: RunRecord) -> None:
    """Write split.json and the vocabulary; log the size of each part and the excluded utterances."""
    settings, summary = task.settings, task.dataset.summary()
    if record.main:
        digest.write_json(record.folder / result_files.SPLIT, dict(task.dataset.split_json))
        digest.write_json(record.folder / result_files.VOCABULARY, labels.label_vocabulary(settings.script))
    record.log(
        f"{settings.head} head, {count_parameters(task):,} parameters, mode {settings.mode_name}, {settings.script}: "
        f"{summary['train_rows']} utterances, {summary['valid_rows']} for validation, {summary['test_rows']} to test"
    )
    for reason, rows in summary["left_out"].items():
        if rows["rows"]:
            record.log(f"{rows['rows']} utterances {reason} are left out: {', '.join(rows['ids'])}")
    too_many_labels = summary["test_rows_without_room"]
    if too_many_labels["rows"]:
        ids = ", ".join(too_many_labels["ids"])
        record.log(f"{too_many_labels['rows']} test utterances have more labels than frames: {ids}")


def count_parameters(task: AcousticTask) -> int:
    """Number of trainable parameters of the head."""
    return sum(array.size for _, array in tree_flatten(task.model.trainable_parameters()))


def test_best_checkpoint(
    task: AcousticTask, record: RunRecord, world: World, on_row: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Test the best checkpoint on all ranks; rank 0 writes the rows, best.safetensors and run.log.

    Returns values of results.json that the training loop does not produce, identical on every rank. on_row: called with
    (done, total) utterances of this rank.

    Raises WorkFailed on every rank where one cannot recognize its share.
    """
    collectives.sum_numbers(world, [1.0])  # barrier: after it, the primary rank of this host has written its files
    best = _best_weights(record.folder / task.output)
    selected = utterances.select_by_hash(task.dataset.test, task.settings.test_rows)
    local_examples, done = selected[world.rank :: world.size], 0

    def finished(count: int) -> None:
        nonlocal done
        done += count
        on_row(done, len(local_examples))

    def recognize() -> list[dict[str, Any]]:
        recognizer = Recognizer.from_head(head_file.load_head(best))
        row_fields = {"part": "test", "script": task.settings.script, "mode": task.settings.mode_name}
        recognized = recognizer.recognize(task.dataset.features, local_examples, task.settings.batch_size, finished)
        return [
            result_files.correction_row(example, values, **row_fields, run_id=record.folder.name)
            for example, values in recognized
        ]

    rows = [row for part in gather_work(world, recognize) for row in part]
    rows.sort(key=lambda row: row["feat_id"])
    results = {
        "mode": task.settings.mode_name,
        "script": task.settings.script,
        "parameters": count_parameters(task),
        "data": task.dataset.summary(),
    }
    if record.main:
        shutil.copyfile(best, record.folder / result_files.BEST)
        (record.folder / result_files.RUN_LOG).write_text(
            result_files.format_run_log(_metrics(record), results), encoding="utf-8"
        )
        result_files.write_results(record.folder, rows)
    return results | {"checkpoint_sha256": digest.sha256_file(best), "test": result_files.summarize_results(rows)}


def _best_weights(output: Path) -> Path:
    """The best weights by validation loss, or the last ones if there was no validation."""
    best = output / BEST / head_file.HEAD_FILE
    return best if best.is_file() else output / head_file.HEAD_FILE


def _metrics(record: RunRecord) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl; a resumed run may hold a step twice."""
    path = record.folder / METRICS
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
