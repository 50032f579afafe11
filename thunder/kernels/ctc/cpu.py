"""CTC on the CPU with numba.

Each path weight is a float32 mantissa and an int32 exponent, so the sweeps need no exp or log: a sum of path weights is
three shifts and two additions, which vectorize. Rounding errors are relative to the weight, not to a large log
likelihood.
"""

from __future__ import annotations

from functools import cache

import mlx.core as mx
import numpy as np


def loss_and_gradient(
    logits: mx.array, frame_lengths: mx.array, labels: mx.array, label_lengths: mx.array, blank: int
) -> tuple[mx.array, mx.array]:
    """(losses [B], gradient of each in the logits [B, T, V]), both float32; arguments as for `ctc_loss`."""
    values = np.array(logits.astype(mx.float32), order="C")
    losses, gradient = np.empty(len(values), np.float32), np.zeros_like(values)
    integers = (np.array(lengths, dtype=np.int32, order="C") for lengths in (frame_lengths, labels, label_lengths))
    compiled_loop()(values, values.view(np.int32), *integers, blank, losses, gradient)
    return mx.array(losses), mx.array(gradient)


@cache
def compiled_loop():
    """The numba function over rows. numba compiles it at its first use (seconds) and then caches it on disk."""
    from thunder.kernels.ctc import cpu_program

    return cpu_program.loss_and_gradient_rows
