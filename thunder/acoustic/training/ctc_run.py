"""An acoustic run around the loop: tables for all ranks, what it writes before the first step, the test at its end."""

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
from thunder.acoustic.dataset.utterances import Prepared
from thunder.acoustic.head import head_file
from thunder.acoustic.inference import result_files
from thunder.acoustic.inference.recognizer import Recogniser
from thunder.acoustic.training.ctc_task import AcousticTask
from thunder.acoustic.trajectory import training_statistics as of_training
from thunder.acoustic.trajectory.training_statistics import Tables
from thunder.parallel import collectives
from thunder.parallel.world import World
from thunder.runs.records.run_record import METRICS, RunRecord
from thunder.training.checkpoints.checkpoint import BEST


def tables(settings: AcousticSettings, prepared: Prepared, world: World) -> Tables:
    """Rank 0's tables, on every rank: two chips may round k-means differently."""
    mine = of_training.fit(settings, prepared.features, prepared.train).to_bytes() if world.is_main else None
    return Tables.from_bytes(collectives.broadcast_bytes(world, 0, mine))


def begin(task: AcousticTask, record: RunRecord) -> None:
    """Freeze the split, write the vocabulary, and say what is trained on and what was left out."""
    settings, summary = task.settings, task.prepared.summary()
    if record.main:
        digest.write_json(record.folder / result_files.SPLIT, dict(task.prepared.split_json))
        digest.write_json(record.folder / result_files.VOCABULARY, labels.vocabulary(settings.script))
    record.log(
        f"{settings.head} head, {parameters(task):,} parameters, mode {settings.mode_name}, {settings.script}: "
        f"{summary['train_rows']} utterances, {summary['valid_rows']} for validation, {summary['test_rows']} to test"
    )
    for why, left in summary["left_out"].items():
        if left["rows"]:
            record.log(f"{left['rows']} utterances {why} are left out: {', '.join(left['ids'])}")
    crowded = summary["test_rows_without_room"]
    if crowded["rows"]:
        record.log(f"{crowded['rows']} test utterances have more labels than frames: {', '.join(crowded['ids'])}")


def parameters(task: AcousticTask) -> int:
    """Trainable numbers of the head."""
    return sum(array.size for _, array in tree_flatten(task.model.trainable_parameters()))


def test(
    task: AcousticTask, record: RunRecord, world: World, on_row: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Test the best checkpoint, ranks sharing the utterances; rank 0 writes the rows, best.safetensors and run.log.

    Returns what results.json holds beside the loop's own numbers, the same on every rank.
    """
    collectives.sum_numbers(world, [1.0])  # the primary rank of this host has written its files by now
    best = _best(record.folder / task.output)
    chosen = utterances.chosen(task.prepared.test, task.settings.test_rows)
    mine, done = chosen[world.rank :: world.size], 0

    def finished(count: int) -> None:
        nonlocal done
        done += count
        on_row(done, len(mine))

    recogniser = Recogniser.of(head_file.load(best))
    said = {"part": "test", "script": task.settings.script, "mode": task.settings.mode_name}
    heard = recogniser.rows(task.prepared.features, mine, task.settings.batch_size, finished)
    rows = [result_files.correction_row(one, each, **said, run_id=record.folder.name) for one, each in heard]
    rows = [row for part in collectives.gather_json(world, rows) for row in part]
    rows.sort(key=lambda row: row["feat_id"])
    found = {
        "mode": task.settings.mode_name,
        "script": task.settings.script,
        "parameters": parameters(task),
        "data": task.prepared.summary(),
    }
    if record.main:
        shutil.copyfile(best, record.folder / result_files.BEST)
        (record.folder / result_files.RUN_LOG).write_text(
            result_files.log_text(_metrics(record), found), encoding="utf-8"
        )
        result_files.write(record.folder, rows)
    return found | {"checkpoint_sha256": digest.sha256_file(best), "test": result_files.summarise(rows)}


def _best(output: Path) -> Path:
    """The best weights by validation loss, or the last where there was none."""
    best = output / BEST / head_file.NAME
    return best if best.is_file() else output / head_file.NAME


def _metrics(record: RunRecord) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl; a resumed run may hold a step twice."""
    path = record.folder / METRICS
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
