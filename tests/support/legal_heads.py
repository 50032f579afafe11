"""A head for audits whose adapter changes what is heard."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import toy_speech

from thunder.acoustic.inference.recognizer import Recognizer
from thunder.acoustic.training.ctc_task import AcousticTask

MODE = "trajectory+ttt"


def legal_recognizer():
    """(recognizer, parts, tables): a head whose adapter does something, as one that was trained does."""
    settings, parts, made = toy_speech.dataset(24, mode=MODE, ttt_lr=0.1)
    task = AcousticTask(settings, parts, made)
    draw = np.random.default_rng(5)
    adapter = task.model.adapter
    adapter.output.weight = mx.array(draw.normal(0, 0.5, adapter.output.weight.shape).astype(np.float32))
    task.model.leave.weight = mx.array(draw.normal(0, 1, task.model.leave.weight.shape).astype(np.float32))
    return Recognizer(task.model, made, settings), parts, made
