"""CTC on a GPU in two launches: the sweep over frames, then the gradient of all frames at once."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx

from thunder.kernels import gpu_launch
from thunder.kernels.ctc.problem import IMPOSSIBLE, pose
from thunder.kernels.gpu_launch import SIMD, Kernel, Launch, whole

FOLDER = Path(__file__).parent
SWEEP = Kernel(
    "ctc_sweep",
    ("log_probs", "states", "frames", "counts", "sizes"),
    ("paths", "likelihood"),
    FOLDER / "sweep.metal",
)
GRADIENT = Kernel(
    "ctc_gradient",
    ("log_probs", "states", "frames", "counts", "paths", "sizes"),
    ("gradient",),
    FOLDER / "gradient.metal",
)
THREADS = 1024  # of a group; one for each state
GROUP = 64  # threads for one frame's gradient


def refused(longest: int) -> dict[str, str]:
    """Why the texts cannot take this many labels, for each GPU backend; empty where they can."""
    states = 2 * longest + 1
    reason = f"{states} states are more than a group's {THREADS} threads" if states > THREADS else ""
    return dict.fromkeys(("metal", "cuda"), reason) if reason else {}


def loss_and_gradient(
    logits: mx.array,
    frame_lengths: mx.array,
    labels: mx.array,
    label_lengths: mx.array,
    blank: int,
    backend: str,
) -> tuple[mx.array, mx.array]:
    """(losses [B], their gradient in the logits [B, T, V]), both float32; arguments as for `ctc_loss`."""
    problem = pose(logits, frame_lengths, labels, label_lengths, blank)
    (rows, length, size), states = logits.shape, problem.states.shape[1]
    threads = whole(states, SIMD)
    sizes = mx.array([rows, length, size, states, blank], dtype=mx.int32)
    inputs = (problem.log_probs, problem.states, problem.frames, problem.counts)

    sweep = Launch(
        constants=(("TG", threads),),
        grid=(threads, 2, rows),
        threadgroup=(threads, 1, 1),
        shapes=((2, rows, length, states), (rows,)),
        dtypes=(mx.float32, mx.float32),
    )
    paths, likelihood = gpu_launch.run(SWEEP, backend, (*inputs, sizes), sweep)
    differentiate = Launch(
        constants=(("TG", GROUP), ("STATES", threads)),
        grid=(GROUP, length, rows),
        threadgroup=(GROUP, 1, 1),
        shapes=((rows, length, size),),
        dtypes=(mx.float32,),
    )
    (gradient,) = gpu_launch.run(GRADIENT, backend, (*inputs, paths, sizes), differentiate)
    return problem.finish(mx.where(likelihood < IMPOSSIBLE, mx.inf, -likelihood), gradient)
