"""The numba loops of CTC: the same bits wherever the arrays lie."""

from __future__ import annotations

import numpy as np
import pytest


def test_the_cpus_program_has_the_same_bits_wherever_its_arrays_lie():
    """Loops that the compiler has in two versions are chosen by addresses, so the heap is stirred between calls."""
    program = pytest.importorskip("thunder.kernels.ctc.cpu_program", reason="needs numba")
    draw = np.random.default_rng(0)
    logits = draw.standard_normal((4, 32, 60)).astype(np.float32) * 3
    labels = draw.integers(1, 60, (4, 8)).astype(np.int32)
    lengths = np.array([32, 30, 20, 25], np.int32), np.array([5, 4, 3, 3], np.int32)
    results = set()
    for turn in range(1500):
        allocations = [np.empty(draw.integers(1, 5000), np.uint8) for _ in range(6)]
        if turn % 3:
            del allocations
        losses, gradient = np.empty(4, np.float32), np.zeros_like(logits)
        program.loss_and_gradient_rows(
            logits, logits.view(np.int32), lengths[0], labels, lengths[1], 0, losses, gradient
        )
        results.add(losses.tobytes() + gradient.tobytes())
    assert len(results) == 1
