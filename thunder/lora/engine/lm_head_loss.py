"""The output layer and its cross entropy in one: logits are made a few positions at a time and never kept."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from thunder.lora.engine import fast_math

AT_ONCE = 48
"""Positions whose logits there are at once: of 262,144 tokens in float32 they are 50 MB."""
BOUNDED = 60.0
"""Up to this soft cap a sum of exp(logit) stays far below float32's largest number: no maximum has to be found."""


class Head:
    """From hidden states behind the last norm to the summed cross entropy of their targets.

    The gradient with respect to hidden states is made in the forward pass, while the logits are there; the projection
    itself is frozen and gets none.
    """

    def __init__(self, projection: nn.Module, cap: float | None, at_once: int = AT_ONCE) -> None:
        """projection: a tied embedding or a linear layer, quantised or not. cap: of the soft cap on logits, if any."""
        assert "bias" not in projection, "no Gemma has a biased head"
        self.projection, self.cap = projection, cap
        self.quantised = isinstance(projection, nn.QuantizedLinear | nn.QuantizedEmbedding)
        self.at_once, self.quick = at_once, fast_math.wanted()
        self._fused = self._make_fused()

    def loss(self, hidden: mx.array, targets: mx.array, weights: mx.array, differentiable: bool = True) -> mx.array:
        """[] float32 sum of weighted cross entropies.

        hidden: [P, D] positions. targets: [P] token ids. weights: [P] float32, 0 where a position is padding.
        differentiable: whether a gradient may be asked for; without it the pass costs half.
        """
        if differentiable:
            return self._fused(hidden, targets, weights)[0]
        return sum((self._piece(*piece)[0] for piece in self._pieces(hidden, targets, weights)), mx.array(0.0))

    def _make_fused(self) -> Any:
        @mx.custom_function
        def fused(hidden: mx.array, targets: mx.array, weights: mx.array) -> tuple[mx.array, mx.array]:
            losses, gradients = [], []
            for states, *piece in self._pieces(hidden, targets, weights):
                # one after the other: MLX would start with the logits of all
                states = mx.depends(states, gradients[-1:]) if gradients else states
                loss, by_logits, by_target = self._piece(states, *piece)
                losses.append(loss)
                gradients.append(self._back(by_logits.astype(hidden.dtype)) - by_target * self._rows(piece[0]))
            return sum(losses[1:], losses[0]), mx.concatenate(gradients) if len(gradients) > 1 else gradients[0]

        @fused.vjp
        def back(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, mx.array, mx.array]:
            hidden, targets, weights = primals
            return (cotangents[0] * outputs[1]).astype(hidden.dtype), mx.zeros_like(targets), mx.zeros_like(weights)

        return fused

    def _pieces(self, *arrays: mx.array) -> list[tuple[mx.array, ...]]:
        positions = arrays[0].shape[0]
        count = math.ceil(positions / self.at_once)
        size = math.ceil(positions / count)
        return [tuple(array[start : start + size] for array in arrays) for start in range(0, positions, size)]

    def _piece(self, hidden: mx.array, targets: mx.array, weights: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """Loss [], its gradient by logits without the targets' own share [P, V], and that share [P, 1]."""
        logits = self._project(hidden)
        logits = logits if logits.dtype == mx.float64 else logits.astype(mx.float32)
        at_target, quick = targets[:, None], self.quick and logits.dtype == mx.float32
        if self.cap is None:
            squashed, slope = logits, None
        else:
            bent = (fast_math.tanh if quick else mx.tanh)(logits * (1 / self.cap))
            squashed, slope = bent * self.cap, 1 - bent * bent
        if self.cap is None or self.cap > BOUNDED:
            squashed, quick = squashed - squashed.max(-1, keepdims=True), False
        powers = (fast_math.exp if quick else mx.exp)(squashed)
        total = powers.sum(-1, keepdims=True)
        loss = ((mx.log(total) - mx.take_along_axis(squashed, at_target, -1)) * weights[:, None]).sum()
        by_logits, by_target = powers * (weights[:, None] / total), weights[:, None]
        if slope is not None:
            by_logits, by_target = by_logits * slope, by_target * mx.take_along_axis(slope, at_target, -1)
        return loss, by_logits, by_target.astype(hidden.dtype)

    def _project(self, hidden: mx.array) -> mx.array:
        tied = isinstance(self.projection, nn.Embedding | nn.QuantizedEmbedding)
        return self.projection.as_linear(hidden) if tied else self.projection(hidden)

    def _back(self, by_logits: mx.array) -> mx.array:
        """[P, V] -> [P, D]: the projection's transpose."""
        p = self.projection
        if not self.quantised:
            return by_logits @ p.weight
        return mx.quantized_matmul(
            by_logits, p.weight, p.scales, p.get("biases"), transpose=False,
            group_size=p.group_size, bits=p.bits, mode=p.mode,
        )  # fmt: skip

    def _rows(self, targets: mx.array) -> mx.array:
        """[P, D] the projection's rows of the targets."""
        p = self.projection
        if not self.quantised:
            return p.weight[targets]
        biases = p.get("biases")
        return mx.dequantize(
            p.weight[targets], p.scales[targets], None if biases is None else biases[targets],
            group_size=p.group_size, bits=p.bits, mode=p.mode,
        )  # fmt: skip
