"""Linear layers that multiply each row of a batch by itself, so that its result does not depend on its batch-mates."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager

import mlx.core as mx
import mlx.nn as nn


class RowwiseLinear(nn.Linear):
    """A linear layer on [B, T, D] that does B products of [T, D].

    The stock layer does one of [B * T, D], where a BLAS may sum a row's numbers in another order for another B.
    """

    def __call__(self, x: mx.array) -> mx.array:
        """[B, T, D] -> [B, T, O]."""
        return x @ self.weight.T[None] if "bias" not in self else x @ self.weight.T[None] + self.bias


@contextmanager
def rowwise(modules: Iterable[nn.Module]) -> Generator[None]:
    """While it lasts, graphs made with these modules multiply row by row."""
    changed = [leaf for module in modules for leaf in module.modules() if type(leaf) is nn.Linear]
    try:
        for leaf in changed:
            leaf.__class__ = RowwiseLinear
        yield
    finally:
        for leaf in changed:
            leaf.__class__ = nn.Linear
