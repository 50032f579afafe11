"""CTC on a GPU in two launches: a sweep over the frames, then the gradient of all frames at once."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx

from thunder.kernels import gpu_launch
from thunder.kernels.ctc.sanitized_batch import LOG_ZERO_THRESHOLD, sanitize_batch
from thunder.kernels.gpu_launch import SIMD_WIDTH, GpuKernel, KernelLaunch, round_up

FOLDER = Path(__file__).parent
SWEEP = GpuKernel(
    "ctc_sweep",
    ("log_probs", "states", "frame_counts", "state_counts", "sizes"),
    ("path_weights", "likelihood"),
    FOLDER / "sweep.metal",
)
GRADIENT = GpuKernel(
    "ctc_gradient",
    ("log_probs", "states", "frame_counts", "state_counts", "path_weights", "sizes"),
    ("gradient",),
    FOLDER / "gradient.metal",
)
MAX_STATES = 1024  # threads of a threadgroup; one for each state
GRADIENT_THREADS = 64  # threads that compute the gradient of one frame


def unsupported_reasons(max_labels: int) -> dict[str, str]:
    """Why the kernels cannot take this many labels, for each GPU backend; empty when they can."""
    states = 2 * max_labels + 1
    reason = f"{states} states are more than a group's {MAX_STATES} threads" if states > MAX_STATES else ""
    return dict.fromkeys(("metal", "cuda"), reason) if reason else {}


def loss_and_gradient(
    logits: mx.array,
    frame_lengths: mx.array,
    labels: mx.array,
    label_lengths: mx.array,
    blank: int,
    backend: str,
) -> tuple[mx.array, mx.array]:
    """(losses [B], gradient of each in the logits [B, T, V]), both float32; arguments as for `ctc_loss`."""
    batch = sanitize_batch(logits, frame_lengths, labels, label_lengths, blank)
    (rows, frames, outputs), states = logits.shape, batch.states.shape[1]
    threads = round_up(states, SIMD_WIDTH)
    sizes = mx.array([rows, frames, outputs, states, blank], dtype=mx.int32)
    inputs = (batch.log_probs, batch.states, batch.frame_counts, batch.state_counts)

    sweep_launch = KernelLaunch(
        constants=(("TG", threads),),
        grid=(threads, 2, rows),
        threadgroup=(threads, 1, 1),
        shapes=((2, rows, frames, states), (rows,)),
        dtypes=(mx.float32, mx.float32),
    )
    path_weights, likelihood = gpu_launch.launch_kernel(SWEEP, backend, (*inputs, sizes), sweep_launch)
    gradient_launch = KernelLaunch(
        constants=(("TG", GRADIENT_THREADS), ("STATES", threads)),
        grid=(GRADIENT_THREADS, frames, rows),
        threadgroup=(GRADIENT_THREADS, 1, 1),
        shapes=((rows, frames, outputs),),
        dtypes=(mx.float32,),
    )
    (gradient,) = gpu_launch.launch_kernel(GRADIENT, backend, (*inputs, path_weights, sizes), gradient_launch)
    return batch.mask_rows(mx.where(likelihood < LOG_ZERO_THRESHOLD, mx.inf, -likelihood), gradient)
