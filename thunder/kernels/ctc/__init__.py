"""CTC loss: minus the log probability of a labelling under per-frame outputs, and its gradient, in one pass."""

from __future__ import annotations

from functools import cache

import mlx.core as mx

from thunder.errors import UsageError
from thunder.kernels import dispatch
from thunder.kernels.ctc import cpu, gpu, reference

KERNEL = "ctc"


def ctc_loss(
    logits: mx.array,
    frame_lengths: mx.array,
    labels: mx.array,
    label_lengths: mx.array,
    *,
    blank: int = 0,
    backend: str = "auto",
) -> mx.array:
    """Losses [B] float32 in nats, differentiable in the logits.

    logits: [B, T, V] unnormalised; labels: [B, U] ints; both lengths: [B], what lies beyond them is never read.
    A row whose labelling no path can spell (see `impossible`, or where a logit is -inf) has loss inf; a row that is
    malformed (a length beyond the arrays, a label outside the alphabet or equal to the blank, a frame with NaN, +inf
    or nothing but -inf) has loss NaN. Both have gradient zero, and no row touches another: count them, name them and
    mask them by `mx.where` before summing. Raises UsageError for arrays of other shapes.
    """
    check_shapes(logits, frame_lengths, labels, label_lengths, blank)
    arrays = logits, frame_lengths, labels, label_lengths
    chosen = dispatch.choose(backend, KERNEL, gpu.refused(labels.shape[1]), values=arrays)
    integers = (lengths.astype(mx.int32) for lengths in (frame_lengths, labels, label_lengths))
    return with_gradient(chosen, blank)(logits, *integers)[0]


def impossible(frame_lengths: mx.array, labels: mx.array, label_lengths: mx.array) -> mx.array:
    """[B] bool: rows with fewer frames than labels plus repeats (a blank must part two equal labels)."""
    place = mx.arange(1, labels.shape[1])
    repeats = mx.logical_and(labels[:, 1:] == labels[:, :-1], place < label_lengths[:, None]).sum(1)
    return frame_lengths < label_lengths + repeats


@cache
def with_gradient(backend: str, blank: int):
    """The loss as a function whose forward pass makes the gradient too, and whose vjp only scales it."""
    sweep = {"reference": reference.loss_and_gradient, "cpu": cpu.loss_and_gradient}.get(backend)

    @mx.custom_function
    def loss_and_gradient(logits, frame_lengths, labels, label_lengths):
        arrays = (logits, frame_lengths, labels, label_lengths)
        return sweep(*arrays, blank) if sweep else gpu.loss_and_gradient(*arrays, blank, backend)

    @loss_and_gradient.vjp
    def scaled(primals, cotangents, outputs):
        losses, gradient = outputs
        weight = mx.where(mx.isfinite(losses), cotangents[0], 0.0)
        # integer inputs have no gradient; MLX wants an array for each all the same
        return (weight[:, None, None] * gradient).astype(primals[0].dtype), *map(mx.zeros_like, primals[1:])

    return loss_and_gradient


def check_shapes(
    logits: mx.array, frame_lengths: mx.array, labels: mx.array, label_lengths: mx.array, blank: int
) -> None:
    """Raise UsageError with every shape where they do not fit together."""
    rows = logits.shape[0] if logits.ndim == 3 else -1
    fits = logits.ndim == 3 and labels.ndim == 2 and labels.shape[0] == rows and min(logits.shape) > 0
    if not fits or frame_lengths.shape != (rows,) or label_lengths.shape != (rows,):
        shapes = f"logits {logits.shape}, frame lengths {frame_lengths.shape}, labels {labels.shape}, "
        raise UsageError(
            f"{KERNEL}: {shapes}label lengths {label_lengths.shape} do not fit together",
            "logits [B, T, V] with B, T, V > 0, labels [B, U], both lengths [B]",
        )
    if not 0 <= blank < logits.shape[2]:
        raise UsageError(f"{KERNEL}: blank {blank} is none of {logits.shape[2]} outputs", "0 <= blank < V")
