"""Which shapes Metal's GPU watchdog lets live: a pure judgement from the shapes that are known.

macOS kills a GPU command that runs for more than about five seconds. Two shapes are known from gemma-4-e2b on M4 and
M4 Pro: batch 1, 4 LoRA layers, 256 tokens runs; batch 2, 8 layers, 512 tokens is killed. In between nothing is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

E2B_MULTIPLY_ADDS = 2.27e9
"""Multiply-adds per token of a forward pass of gemma-4-e2b, head included: what the known shapes were run with."""


@dataclass(frozen=True)
class Shape:
    """What goes through the model at once: rows, LoRA layers, tokens a row."""

    batch_size: int
    num_layers: int
    max_seq_length: int

    @property
    def work(self) -> int:
        """Rows x layers x tokens."""
        return self.batch_size * self.num_layers * self.max_seq_length

    def __str__(self) -> str:
        return f"batch {self.batch_size}, {self.num_layers} LoRA layers, {self.max_seq_length} tokens"


KNOWN_SAFE = Shape(1, 4, 256)
KNOWN_UNSAFE = Shape(2, 8, 512)


@dataclass(frozen=True)
class Verdict:
    """safe: at most the work of the shape known to run. unsafe: at least that of the one known to be killed."""

    verdict: Literal["safe", "unproven", "unsafe"]
    reason: str
    nearest_safe: Shape


def judge(shape: Shape, multiply_adds: float = E2B_MULTIPLY_ADDS) -> Verdict:
    """Judge a shape for a model with so many multiply-adds per token.

    The work of a shape is scaled by the model's, relative to gemma-4-e2b: a small model may take larger shapes.
    """
    scale = multiply_adds / E2B_MULTIPLY_ADDS
    work = shape.work * scale
    near = nearest_safe(shape, scale)
    if work <= KNOWN_SAFE.work:
        return Verdict("safe", f"at most the work of {KNOWN_SAFE}, which is known to run", shape)
    if work >= KNOWN_UNSAFE.work:
        return Verdict("unsafe", f"at least the work of {KNOWN_UNSAFE}, which Metal's watchdog is known to kill", near)
    return Verdict("unproven", f"between {KNOWN_SAFE} (known to run) and {KNOWN_UNSAFE} (known to be killed)", near)


def nearest_safe(shape: Shape, scale: float = 1.0) -> Shape:
    """The shape nearest to this one that is known to be safe: first the batch is halved, then layers, then length."""
    near = shape
    for field, least in (
        ("batch_size", 1),
        ("num_layers", KNOWN_SAFE.num_layers),
        ("max_seq_length", 32),
        ("num_layers", 1),
    ):
        while near.work * scale > KNOWN_SAFE.work and getattr(near, field) > least:
            near = replace(near, **{field: max(least, getattr(near, field) // 2)})
    return near


def as_flags(shape: Shape) -> str:
    """A shape as the flags that ask for it."""
    return f"--batch-size {shape.batch_size} --num-layers {shape.num_layers} --max-seq-length {shape.max_seq_length}"
