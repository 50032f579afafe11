"""CTC loss and its gradient in one pass: minus the log probability of a label sequence under per-frame outputs."""

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

    logits: [B, T, V], not normalized. labels: [B, U] integers. frame_lengths, label_lengths: [B]; values beyond the
    lengths are not read. A row whose labels no path can spell (see `is_impossible`, or a logit of -inf) has loss inf.
    A malformed row has loss NaN: a length beyond the arrays, a label outside the alphabet or equal to the blank, or a
    frame with NaN, +inf or only -inf. Both kinds of row have gradient zero and do not affect other rows: count and
    report them, and mask them with `mx.where` before summing. Raises UsageError for arrays of other shapes.
    """
    check_shapes(logits, frame_lengths, labels, label_lengths, blank)
    arrays = logits, frame_lengths, labels, label_lengths
    chosen_backend = dispatch.choose_backend(backend, KERNEL, gpu.unsupported_reasons(labels.shape[1]), values=arrays)
    integers = (lengths.astype(mx.int32) for lengths in (frame_lengths, labels, label_lengths))
    return differentiable_loss(chosen_backend, blank)(logits, *integers)[0]


def is_impossible(frame_lengths: mx.array, labels: mx.array, label_lengths: mx.array) -> mx.array:
    """[B] bool: rows with fewer frames than labels plus repeats (CTC needs a blank between two equal labels)."""
    position = mx.arange(1, labels.shape[1])
    repeats = mx.logical_and(labels[:, 1:] == labels[:, :-1], position < label_lengths[:, None]).sum(1)
    return frame_lengths < label_lengths + repeats


@cache
def differentiable_loss(backend: str, blank: int):
    """The loss as a custom function: the forward pass also computes the gradient, and the vjp scales it."""
    implementation = {"reference": reference.loss_and_gradient, "cpu": cpu.loss_and_gradient}.get(backend)

    @mx.custom_function
    def loss_and_gradient(logits, frame_lengths, labels, label_lengths):
        arrays = (logits, frame_lengths, labels, label_lengths)
        return implementation(*arrays, blank) if implementation else gpu.loss_and_gradient(*arrays, blank, backend)

    @loss_and_gradient.vjp
    def scaled(primals, cotangents, outputs):
        losses, gradient = outputs
        weight = mx.where(mx.isfinite(losses), cotangents[0], 0.0)
        # integer inputs have no gradient, but MLX expects an array for each
        return (weight[:, None, None] * gradient).astype(primals[0].dtype), *map(mx.zeros_like, primals[1:])

    return loss_and_gradient


def check_shapes(
    logits: mx.array, frame_lengths: mx.array, labels: mx.array, label_lengths: mx.array, blank: int
) -> None:
    """Raise UsageError with every shape when the shapes are inconsistent."""
    rows = logits.shape[0] if logits.ndim == 3 else -1
    is_consistent = logits.ndim == 3 and labels.ndim == 2 and labels.shape[0] == rows and min(logits.shape) > 0
    if not is_consistent or frame_lengths.shape != (rows,) or label_lengths.shape != (rows,):
        shapes = f"logits {logits.shape}, frame_lengths {frame_lengths.shape}, labels {labels.shape}, "
        raise UsageError(
            f"{KERNEL}: inconsistent shapes: {shapes}label_lengths {label_lengths.shape}",
            "logits [B, T, V] with B, T, V > 0, labels [B, U], frame_lengths and label_lengths [B]",
        )
    if not 0 <= blank < logits.shape[2]:
        raise UsageError(f"{KERNEL}: blank {blank} is not one of the {logits.shape[2]} outputs", "0 <= blank < V")
