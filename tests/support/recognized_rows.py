"""Rows that an untrained head recognizes in toy speech."""

import mlx.core as mx
import toy_speech

from thunder.acoustic.inference import result_files
from thunder.acoustic.inference.recognizer import Recognizer


def heard(mode="baseline", batch_size=4, count=48, **changes):
    """(task, rows) of an untrained head that says something."""
    made = toy_speech.task(count, mode=mode, test_speakers=["s1", "s3"], **changes)
    made.model.leave.bias = mx.random.normal(made.model.leave.bias.shape, key=mx.random.key(1))
    recognizer = Recognizer(made.model, made.statistics, made.settings)
    counts = []
    said = {"part": "test", "script": "latin", "mode": made.settings.mode_name, "run_id": "run-1"}
    found = recognizer.recognize(made.dataset.features, made.dataset.test, batch_size, counts.append)
    rows = [result_files.correction_row(one, each, **said) for one, each in found]
    assert sum(counts) == len(rows) == len(made.dataset.test)
    return made, sorted(rows, key=lambda row: row["feat_id"])
