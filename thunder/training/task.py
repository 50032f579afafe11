"""The `Task` protocol: what the training loop requires of a model, its rows and its loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import mlx.core as mx
import mlx.nn as nn


@dataclass(frozen=True)
class Batch:
    """Arrays for one pass through the model; `tokens` is how many supervised tokens they hold."""

    arrays: tuple[mx.array, ...]
    tokens: int


class Task(Protocol):
    """A model, its rows and its loss. The model knows one machine; the loop handles ranks."""

    model: nn.Module
    rows: int
    lengths: Sequence[int] | None
    """Cost of each row, so that rows of similar length come in one step; None for any order."""
    compiled: bool
    """Whether its step can be compiled: where its loss is MLX operations throughout."""
    output: str
    """Name of the folder inside the run's folder for the result: an adapter or a model."""

    def batch(self, rows: Sequence[int], epoch: int) -> Batch:
        """The given training rows, padded to one shape."""
        ...

    def loss(self, model: nn.Module, *arrays: mx.array) -> mx.array:
        """[] the loss summed over supervised tokens: never a mean, since a mean of unequal ranks is wrong."""
        ...

    def validation(self, rank: int, size: int) -> Iterator[tuple[str, Batch]]:
        """This rank's share of the validation rows, each batch with its group; the first group decides 'best'."""
        ...

    def validation_metrics(self, sums: dict[str, tuple[float, float]]) -> dict[str, float]:
        """(loss sum, tokens) per group over all ranks -> what to report; must hold `valid_loss`, lower is better."""
        ...

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the validation groups; empty where there is nothing to validate on."""
        ...

    def save(self, folder: Path) -> None:
        """Write the result (an adapter, a model) into the folder."""
        ...


@runtime_checkable
class CountsBatches(Protocol):
    """A task that knows how many batches a validation has."""

    def validation_batches(self, rank: int, size: int) -> int:
        """Batches of this rank's share of a validation, probe included."""
        ...
