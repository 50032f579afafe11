"""Linear layers at some columns, and row by row: the numbers of the stock layer, whatever stands beside a row."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn

from thunder.lora.engine import linear_layers
from thunder.lora.engine.linear_layers import RowwiseLinear


@pytest.mark.parametrize("mode", [None, "affine", "mxfp4"])
@pytest.mark.parametrize("columns", [slice(None), slice(0, 8), slice(16, 40)])
def test_columns_of_a_projection_are_those_of_the_stock_layer(mode, columns):
    mx.random.seed(1)
    layer, x = nn.Linear(64, 48, bias=False), mx.random.normal((3, 7, 64))
    if mode:
        layer = layer.to_quantized(group_size=32, bits=4, mode=mode)
    found = linear_layers.project_columns(layer, x, columns)
    np.testing.assert_allclose(np.array(found), np.array(layer(x)[..., columns]), atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_a_row_has_the_same_bytes_in_any_batch(bias):
    mx.random.seed(2)
    network = nn.Sequential(nn.Linear(33, 65, bias=bias), nn.ReLU(), nn.Linear(65, 9, bias=bias))
    x = mx.random.normal((6, 11, 33))
    stock = np.array(network(x))
    with linear_layers.rowwise_products([network]):
        assert [type(each) for each in network.layers] == [RowwiseLinear, nn.ReLU, RowwiseLinear]
        together, alone = network(x), [network(x[row : row + 1]) for row in range(6)]
        assert mx.array_equal(together, mx.concatenate(alone)).item()
    np.testing.assert_allclose(np.array(together), stock, atol=1e-5)
    assert type(network.layers[0]) is type(network.layers[2]) is nn.Linear


def test_the_layers_are_stock_again_after_an_error_and_other_kinds_are_left_alone():
    network = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32).to_quantized(group_size=32))
    with pytest.raises(KeyError), linear_layers.rowwise_products([network]):
        assert [type(each) for each in network.layers] == [RowwiseLinear, nn.QuantizedLinear]
        raise KeyError
    assert [type(each) for each in network.layers] == [nn.Linear, nn.QuantizedLinear]
