"""Linear layers applied to some of their outputs only, or to each row of a batch by itself."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager

import mlx.core as mx
import mlx.nn as nn

ALL_COLUMNS = slice(None)


def project_columns(layer: nn.Module, x: mx.array, columns: slice = ALL_COLUMNS) -> mx.array:
    """[B, T, D] -> [B, T, columns]; one product for each row of the batch, as in `RowwiseLinear`.

    layer: linear without a bias, quantized or not. columns: the outputs to compute.
    """
    if not isinstance(layer, nn.QuantizedLinear):
        return x @ layer.weight[columns].T[None]
    biases = layer.get("biases")
    return mx.quantized_matmul(
        x, layer.weight[columns], layer.scales[columns], None if biases is None else biases[columns],
        transpose=True, group_size=layer.group_size, bits=layer.bits, mode=layer.mode,
    )  # fmt: skip


class RowwiseLinear(nn.Linear):
    """A linear layer on [B, T, D] that computes B products of [T, D].

    The result of a row then does not depend on the other rows of its batch. The stock layer computes one product of
    [B * T, D], where a BLAS may add up a row's numbers in another order for another B.
    """

    def __call__(self, x: mx.array) -> mx.array:
        """[B, T, D] -> [B, T, O]."""
        return x @ self.weight.T[None] if "bias" not in self else x @ self.weight.T[None] + self.bias


@contextmanager
def rowwise_products(modules: Iterable[nn.Module]) -> Generator[None]:
    """While the context is open, the linear layers of these modules are `RowwiseLinear`."""
    changed = [leaf for module in modules for leaf in module.modules() if type(leaf) is nn.Linear]
    try:
        for leaf in changed:
            leaf.__class__ = RowwiseLinear
        yield
    finally:
        for leaf in changed:
            leaf.__class__ = nn.Linear
