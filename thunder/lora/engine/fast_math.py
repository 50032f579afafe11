"""exp, tanh and Gemma's gated activation from products and sums, for MLX's CPU backend on Linux.

There MLX asks the C library for each number by itself: 12 to 29 ns for one exp, tanh or GELU, so that they and not the
matrix products take most of a step. These fuse into vector code of 1 to 3 ns, to float32's last digits. A GPU, and
Apple's Accelerate, have fast ones of their own: there nothing is changed.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn

# fitted here by least squares, weighted until the relative error is even: 2e-9 over |x| <= ln(2) / 2
_EXP = (1.000000001, 1.000000036, 0.4999999206, 0.1666641981, 0.04166822789, 0.008374846307, 0.001383680662)
# and tanh(x) = x P(x * x) / Q(x * x) to 6e-9 over |x| <= 7.9, where float32 has it at 1
_OVER = (0.9999999944, 0.1345062345, 0.003578995384, 2.202329875e-05, 1.542804523e-08)
_UNDER = (1.0, 0.4678395145, 0.02619225086, 0.0003423655967, 8.59881007e-07)
_SATURATED = 7.9
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.1219444005469057e-4  # their sum is ln 2; the first has few digits
_TO_WHOLE = 1.5 * 2**23  # added to a small float32 and taken away again, it rounds


def wanted() -> bool:
    """Whether the arithmetic runs on MLX's CPU backend without Accelerate."""
    return platform.system() == "Linux" and mx.default_device().type == mx.DeviceType.cpu


def _polynomial(coefficients: Sequence[float], x: mx.array) -> mx.array:
    """By halves, not one coefficient after the other: MLX fuses chains of eleven operations at the most."""
    terms: list[Any] = list(coefficients)
    while len(terms) > 1:
        pairs = [terms[place] + terms[place + 1] * x for place in range(0, len(terms) - 1, 2)]
        terms = [*pairs, terms[-1]] if len(terms) % 2 else pairs
        x = x * x
    return terms[0]


@mx.compile
def exp(x: mx.array) -> mx.array:
    """exp of float32, to 2e-7 of its value, for |x| <= 80."""
    whole = (x * (1 / math.log(2)) + _TO_WHOLE) - _TO_WHOLE
    rest = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    power_of_two = mx.view(mx.left_shift(whole.astype(mx.int32) + 127, 23), mx.float32)  # 127: float32's bias
    return _polynomial(_EXP, rest) * power_of_two


@mx.compile
def tanh(x: mx.array) -> mx.array:
    """tanh of float32, to 5e-7."""
    x = mx.where(x > _SATURATED, _SATURATED, x)
    # `contiguous` ends the fused loop here: with a choice inside, a loop is not made into vector code
    x = mx.contiguous(mx.where(x < -_SATURATED, -_SATURATED, x))
    square = x * x
    return x * _polynomial(_OVER, square) / _polynomial(_UNDER, square)


_SLOPE, _CUBE = math.sqrt(8 / math.pi), 0.044715
_FAR = 80.0


def _shares(gate: mx.array) -> tuple[mx.array, mx.array]:
    """GELU's (1 + tanh) / 2 and (1 - tanh) / 2, as shares of 1 that keep their digits where they are small."""
    x = _SLOPE * (gate + _CUBE * gate * gate * gate)
    x = mx.where(x > _FAR, _FAR, x)
    power = exp(-mx.contiguous(mx.where(x < -_FAR, -_FAR, x)))
    passed = 1 / (1 + power)
    return passed, power * passed


@mx.custom_function
def gated(gate: mx.array, x: mx.array) -> mx.array:
    """GELU (its tanh form) of the gate, times x; float32."""
    return _gated(gate, x)


@gated.vjp
def _gated_back(primals: Any, cotangent: mx.array, _: mx.array) -> tuple[mx.array, mx.array]:
    return _back(*primals, cotangent)


@mx.compile
def _gated(gate: mx.array, x: mx.array) -> mx.array:
    return gate * _shares(gate)[0] * x


@mx.compile
def _back(gate: mx.array, x: mx.array, cotangent: mx.array) -> tuple[mx.array, mx.array]:
    passed, kept = _shares(gate)
    slope = passed + gate * passed * kept * (_SLOPE * (1 + 3 * _CUBE * gate * gate))
    return cotangent * x * slope, cotangent * gate * passed


def quicken(model: nn.Module) -> int:
    """Give a Gemma's MLPs the quick activation, in place, where it is wanted; returns how many.

    They stay what they were in all else, and fall back on their own for other kinds than float32.
    """
    if not wanted():
        return 0
    parts = {"gate_proj", "up_proj", "down_proj"}
    chosen = [module for module in model.modules() if type(module).__name__ == "MLP" and parts <= module.keys()]
    chosen = [module for module in chosen if not isinstance(module, _QuickMLP)]
    for module in chosen:
        stock = type(module)
        module.__class__ = type(stock.__name__, (_QuickMLP, stock), {})
    return len(chosen)


class _QuickMLP:
    """Put before mlx_lm's MLP class of the same layers."""

    def __call__(self: Any, x: mx.array) -> mx.array:
        gate = self.gate_proj(x)
        if gate.dtype != mx.float32:
            return super().__call__(x)  # type: ignore[misc]
        return self.down_proj(gated(gate, self.up_proj(x)))
