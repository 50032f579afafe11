"""Compare CTC loss with gradient with torch's on this CPU, one thread each, and measure its share of a training step.

    .venv/bin/pip install torch
    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/ctc.py [--rounds 7] [--backend cpu]

Both run alternately on the same arrays: 32 rows of random logits, up to 60 labels, 64 outputs. For each number of
frames, the script prints the ratio of the minimum CPU times (thunder / torch; below 1, thunder is faster) and the
largest error of each gradient against torch in float64. Then it prints the loss's share of a training step of a small
Transformer over frozen features.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import torch

from thunder.kernels.ctc import ctc_loss

ROWS, LABELS, OUTPUTS = 32, 60, 64


def random_batch(frames: int) -> tuple[np.ndarray, ...]:
    """Logits [B, T, V], frame lengths [B], labels [B, U] with some repeats, label lengths [B]; no row is impossible."""
    draw = np.random.default_rng(0)
    labels = draw.integers(1, OUTPUTS, (ROWS, LABELS)).astype(np.int32)
    labels[:, -3] = labels[:, -4]
    frame_lengths = draw.integers(int(frames * 0.7), frames + 1, ROWS).astype(np.int32)
    label_lengths = draw.integers(LABELS // 2, LABELS + 1, ROWS).astype(np.int32)
    frame_lengths[0], label_lengths[0] = frames, LABELS
    logits = (2 * draw.standard_normal((ROWS, frames, OUTPUTS))).astype(np.float32)
    return logits, frame_lengths, labels, label_lengths


def torch_call(arrays: tuple[np.ndarray, ...], kind: torch.dtype) -> Callable[[], np.ndarray]:
    """A function that returns the gradient [B, T, V] of torch's summed loss."""
    logits = torch.tensor(arrays[0], dtype=kind, requires_grad=True)
    frame_lengths, labels, label_lengths = (torch.tensor(array).long() for array in arrays[1:])

    def call() -> np.ndarray:
        logits.grad = None
        log_probs = logits.log_softmax(-1).transpose(0, 1)
        losses = torch.nn.functional.ctc_loss(log_probs, labels, frame_lengths, label_lengths, reduction="none")
        losses.sum().backward()
        return logits.grad.numpy()

    return call


def thunder_call(arrays: tuple[np.ndarray, ...], backend: str) -> Callable[[], np.ndarray]:
    """A function that returns the gradient [B, T, V] of the summed `ctc_loss`."""
    logits, *rest = map(mx.array, arrays)
    step = mx.value_and_grad(lambda x: ctc_loss(x, *rest, backend=backend).sum())

    def call() -> np.ndarray:
        loss, gradient = step(logits)
        mx.eval(loss, gradient)
        return np.array(gradient)

    return call


def minimum_times(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Minimum CPU seconds of each function, called alternately after one warm-up call of each."""
    best = {name: float("inf") for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if number:
                best[name] = min(best[name], time.process_time() - start)
    return best


def training_step(arrays: tuple[np.ndarray, ...], width: int, backend: str) -> Callable[[], object]:
    """A training step (forward, loss, backward, AdamW): two Transformer layers of `width` over features [B, T, 512]."""
    features = mx.random.normal((ROWS, arrays[0].shape[1], 512))
    encoder = Unmasked(nn.TransformerEncoder(2, width, 4, 4 * width))
    model = nn.Sequential(nn.Linear(512, width), encoder, nn.Linear(width, OUTPUTS))
    optimizer = optim.AdamW(3e-4)
    rest = list(map(mx.array, arrays[1:]))
    step = nn.value_and_grad(model, lambda x: ctc_loss(model(x), *rest, backend=backend).sum() / ROWS)

    def call() -> None:
        loss, gradients = step(features)
        optimizer.update(model, gradients)
        mx.eval(loss, model.parameters(), optimizer.state)

    return call


class Unmasked(nn.Module):
    """Calls an encoder without a mask."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def __call__(self, x: mx.array) -> mx.array:
        return self.encoder(x, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--backend", default="cpu", help="cpu or reference")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for frames in (375, 750, 1500):
        arrays = random_batch(frames)
        thunder, peer = thunder_call(arrays, options.backend), torch_call(arrays, torch.float32)
        best = minimum_times({"thunder": thunder, "torch": peer}, options.rounds)
        exact = torch_call(arrays, torch.float64)()
        errors = [np.abs(call() - exact).max() for call in (thunder, peer)]
        print(
            f"T {frames:4}: {options.backend} {1000 * best['thunder']:.1f} ms, torch {1000 * best['torch']:.1f} ms, "
            f"ratio {best['thunder'] / best['torch']:.2f}; gradient error {errors[0]:.1e}, torch's {errors[1]:.1e}",
            flush=True,
        )
    arrays = random_batch(375)
    calls = {"loss": thunder_call(arrays, options.backend), "step": training_step(arrays, 256, options.backend)}
    best = minimum_times(calls, 3)
    print(f"share of a training step, T 375: {best['loss'] / best['step']:.1%} of {best['step']:.2f} s")


if __name__ == "__main__":
    main()
