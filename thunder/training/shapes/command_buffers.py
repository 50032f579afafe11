"""GPU commands that the cost of a training step is counted in, and the products of every layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from thunder.training.shapes.model_size import ModelSize

PositionMode = Literal["plain", "supervised"]
CommandKind = Literal["matrix", "quantised", "attention", "elementwise"]
FLOAT32 = 4


@dataclass(frozen=True)
class TrainingShape:
    """The rows, tokens and LoRA layers that go through the model at once.

    supervised_share: of the positions, 1 where it is not known. path: `plain` computes everything at every position, as
    mlx_lm does; `supervised` computes the head, and layers above the last one that makes keys, at supervised positions.
    """

    batch_size: int
    num_layers: int
    max_seq_length: int
    lora_rank: int = 8
    grad_checkpoint: bool = False
    path: PositionMode = "plain"
    supervised_share: float = 1.0

    @property
    def supervised(self) -> int:
        """Most supervised positions of a row."""
        return math.ceil(self.supervised_share * self.max_seq_length)

    def __str__(self) -> str:
        return f"batch {self.batch_size}, {self.num_layers} LoRA layers, {self.max_seq_length} tokens"


@dataclass(frozen=True)
class GpuCommand:
    """One operation of a step, or a few small ones together.

    bytes: read and written. weights: numbers of frozen matrices among its inputs. dispatches: GPU kernels.
    kept: bytes of its output that are stored for the backward pass.
    """

    part: str
    kind: CommandKind
    multiply_adds: float
    bytes: float
    weights: int = 0
    dispatches: int = 1
    kept: float = 0.0


class CommandBuilder:
    """Builds commands from a model's widths and a shape."""

    def __init__(self, size: ModelSize, shape: TrainingShape) -> None:
        self.size, self.shape = size, shape
        self.all = shape.batch_size * shape.max_seq_length
        self.few = shape.batch_size * shape.supervised if shape.path == "supervised" else self.all

    def positions(self, number: int) -> int:
        """Positions at which a layer computes all but its keys and values."""
        return self.few if number >= self.size.cut else self.all

    def matrix(self, part: str, at: int, wide_in: int, wide_out: int, kept: float = 0.0) -> GpuCommand:
        """[at, in] x [in, out]."""
        size = self.size
        moved = wide_in * wide_out * size.weight + at * (wide_in + wide_out) * size.activation
        kind: CommandKind = "quantised" if size.bits else "matrix"
        return GpuCommand(part, kind, float(at) * wide_in * wide_out, moved, wide_in * wide_out, kept=kept)

    def through(self, part: str, at: int, wide_in: int, wide_out: int) -> GpuCommand:
        """The gradient with respect to a frozen matrix's input."""
        return self.matrix(part, at, wide_out, wide_in)

    def linear(self, part: str, at: int, wide_in: int, wide_out: int, trained: bool) -> Iterator[GpuCommand]:
        """A matrix of a layer, with its LoRA where the layer is trained."""
        kept = at * wide_out * self.size.activation
        yield self.matrix(part, at, wide_in, wide_out, kept)
        if trained:
            rank = self.shape.lora_rank
            work, moved = float(at) * rank * (wide_in + wide_out), 4 * kept + at * wide_in * self.size.activation
            kept = at * (rank + wide_out) * FLOAT32
            yield GpuCommand(f"LoRA on {part}", "matrix", work, moved, dispatches=4, kept=kept)

    def lora_gradient(self, part: str, at: int, wide_in: int, wide_out: int, through: bool) -> GpuCommand:
        """Gradients of LoRA's A and B, and, with `through`, of their input."""
        rank = self.shape.lora_rank
        work = float(at) * rank * (2 * wide_out + (2 if through else 1) * wide_in)
        return GpuCommand(
            f"LoRA on {part}, backward", "matrix", work, 3 * at * (wide_in + wide_out) * FLOAT32, dispatches=6
        )

    def between(self, part: str, at: int, width: int, dispatches: int, kept: int = 1) -> GpuCommand:
        """Norms, activations, sums: their cost is the bytes, not the operations."""
        moved = at * width * self.size.activation
        return GpuCommand(part, "elementwise", 0.0, 3 * dispatches * moved, dispatches=dispatches, kept=kept * moved)
