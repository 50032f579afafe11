"""Some of a linear layer's outputs, without the others' work."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

EVERY = slice(None)


def project(layer: nn.Module, x: mx.array, columns: slice = EVERY) -> mx.array:
    """[B, T, D] -> [B, T, columns]; each row of the batch is a product of its own, as in `rowwise`.

    layer: linear without a bias, quantised or not.
    """
    if not isinstance(layer, nn.QuantizedLinear):
        return x @ layer.weight[columns].T[None]
    biases = layer.get("biases")
    return mx.quantized_matmul(
        x, layer.weight[columns], layer.scales[columns], None if biases is None else biases[columns],
        transpose=True, group_size=layer.group_size, bits=layer.bits, mode=layer.mode,
    )  # fmt: skip
