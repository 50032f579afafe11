"""CTC on the CPU by numba: each weight is a float32 mantissa and an int32 exponent, so that no sweep needs exp or log.

A sum of path weights is then three shifts and two additions, which vectorise; the rounding is relative, never to a
large log likelihood.
"""

from __future__ import annotations

from functools import cache

import mlx.core as mx
import numpy as np


def loss_and_gradient(
    logits: mx.array, frame_lengths: mx.array, labels: mx.array, label_lengths: mx.array, blank: int
) -> tuple[mx.array, mx.array]:
    """(losses [B], their gradient in the logits [B, T, V]), both float32; arguments as for `ctc_loss`."""
    values = np.array(logits.astype(mx.float32), order="C")
    losses, gradient = np.empty(len(values), np.float32), np.zeros_like(values)
    integers = (np.array(lengths, dtype=np.int32, order="C") for lengths in (frame_lengths, labels, label_lengths))
    program()(values, values.view(np.int32), *integers, blank, losses, gradient)
    return mx.array(losses), mx.array(gradient)


@cache
def program():
    """The compiled loop over rows; numba is imported and asked for it at the first use (seconds), then cached."""
    from thunder.kernels.ctc import cpu_program

    return cpu_program.rows
