"""Vectorized exp, tanh and gated GELU for MLX's CPU backend on Linux.

There MLX calls the C library for each number: one exp, tanh or GELU takes 12 to 29 ns, and these functions take more of
a step than the matrix products. The functions here use products and sums only; MLX fuses them into vector code that
takes 1 to 3 ns a number, exact to the last digits of float32. A GPU and Apple's Accelerate have fast functions of their
own, and keep them.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn

# fitted by least squares, reweighted until the relative error is even: 2e-9 over |x| <= ln(2) / 2
_EXP_COEFFICIENTS = (
    1.000000001,
    1.000000036,
    0.4999999206,
    0.1666641981,
    0.04166822789,
    0.008374846307,
    0.001383680662,
)
# tanh(x) = x P(x * x) / Q(x * x) to 6e-9 over |x| <= 7.9; beyond, it is 1 in float32
_TANH_NUMERATOR = (0.9999999944, 0.1345062345, 0.003578995384, 2.202329875e-05, 1.542804523e-08)
_TANH_DENOMINATOR = (1.0, 0.4678395145, 0.02619225086, 0.0003423655967, 8.59881007e-07)
_TANH_SATURATION = 7.9
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.1219444005469057e-4  # their sum is ln 2; the first has few binary digits
_ROUNDING = 1.5 * 2**23  # added to a small float32 and subtracted again, it rounds to a whole number


def use_fast_math() -> bool:
    """Whether these functions are the faster ones here: on MLX's CPU backend without Accelerate."""
    return platform.system() == "Linux" and mx.default_device().type == mx.DeviceType.cpu


def _polynomial(coefficients: Sequence[float], x: mx.array) -> mx.array:
    """The polynomial at x, by pairs of terms: MLX fuses at most eleven operations in a chain."""
    terms: list[Any] = list(coefficients)
    while len(terms) > 1:
        pairs = [terms[place] + terms[place + 1] * x for place in range(0, len(terms) - 1, 2)]
        terms = [*pairs, terms[-1]] if len(terms) % 2 else pairs
        x = x * x
    return terms[0]


@mx.compile
def exp(x: mx.array) -> mx.array:
    """exp of float32, to a relative error of 2e-7, for |x| <= 80."""
    whole = (x * (1 / math.log(2)) + _ROUNDING) - _ROUNDING
    remainder = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    power_of_two = mx.view(mx.left_shift(whole.astype(mx.int32) + 127, 23), mx.float32)  # 127: float32's bias
    return _polynomial(_EXP_COEFFICIENTS, remainder) * power_of_two


@mx.compile
def tanh(x: mx.array) -> mx.array:
    """tanh of float32, to an error of 5e-7."""
    x = mx.where(x > _TANH_SATURATION, _TANH_SATURATION, x)
    # `contiguous` ends the fused loop: a loop with `where` inside is not compiled to vector code
    x = mx.contiguous(mx.where(x < -_TANH_SATURATION, -_TANH_SATURATION, x))
    square = x * x
    return x * _polynomial(_TANH_NUMERATOR, square) / _polynomial(_TANH_DENOMINATOR, square)


_GELU_SLOPE, _GELU_CUBIC = math.sqrt(8 / math.pi), 0.044715
_EXP_LIMIT = 80.0


def _gelu_shares(gate: mx.array) -> tuple[mx.array, mx.array]:
    """GELU's (1 + tanh) / 2 and (1 - tanh) / 2, computed so that small values keep their digits."""
    x = _GELU_SLOPE * (gate + _GELU_CUBIC * gate * gate * gate)
    x = mx.where(x > _EXP_LIMIT, _EXP_LIMIT, x)
    power = exp(-mx.contiguous(mx.where(x < -_EXP_LIMIT, -_EXP_LIMIT, x)))
    passed = 1 / (1 + power)
    return passed, power * passed


@mx.custom_function
def gated_gelu(gate: mx.array, x: mx.array) -> mx.array:
    """GELU (tanh approximation) of the gate, times x: float32 arrays of one shape."""
    return _gated_gelu_forward(gate, x)


@gated_gelu.vjp
def _gated_gelu_vjp(primals: Any, cotangent: mx.array, _: mx.array) -> tuple[mx.array, mx.array]:
    return _gated_gelu_backward(*primals, cotangent)


@mx.compile
def _gated_gelu_forward(gate: mx.array, x: mx.array) -> mx.array:
    return gate * _gelu_shares(gate)[0] * x


@mx.compile
def _gated_gelu_backward(gate: mx.array, x: mx.array, cotangent: mx.array) -> tuple[mx.array, mx.array]:
    passed, blocked = _gelu_shares(gate)
    slope = passed + gate * passed * blocked * (_GELU_SLOPE * (1 + 3 * _GELU_CUBIC * gate * gate))
    return cotangent * x * slope, cotangent * gate * passed


def patch_activations(model: nn.Module) -> int:
    """Give a Gemma's MLPs the fast activation, in place, where `use_fast_math`; returns the number of patched MLPs.

    Nothing else of them changes. For other dtypes than float32 they use their own activation.
    """
    if not use_fast_math():
        return 0
    projections = {"gate_proj", "up_proj", "down_proj"}
    mlps = [module for module in model.modules() if type(module).__name__ == "MLP" and projections <= module.keys()]
    mlps = [module for module in mlps if not isinstance(module, _FastMLP)]
    for module in mlps:
        stock = type(module)
        module.__class__ = type(stock.__name__, (_FastMLP, stock), {})
    return len(mlps)


class _FastMLP:
    """Base class that is put before mlx_lm's MLP class."""

    def __call__(self: Any, x: mx.array) -> mx.array:
        gate = self.gate_proj(x)
        if gate.dtype != mx.float32:
            return super().__call__(x)  # type: ignore[misc]
        return self.down_proj(gated_gelu(gate, self.up_proj(x)))
