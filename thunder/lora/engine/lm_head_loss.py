"""The output layer fused with its cross entropy: logits are computed for a few positions at a time and never stored."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from thunder.lora.engine import fast_math

CHUNK_SIZE = 48
"""Positions whose logits are in memory at once: 50 MB for a vocabulary of 262,144 tokens in float32."""
SAFE_SOFTCAP = 60.0
"""Up to this soft cap a sum of exp(logit) stays far below float32's largest number, and no maximum is subtracted."""


class LMHeadLoss:
    """The summed cross entropy of targets, from hidden states after the last norm.

    The forward pass computes the gradient with respect to the hidden states too, while the logits are in memory. The
    projection itself is frozen and gets no gradient.
    """

    def __init__(self, projection: nn.Module, softcap: float | None, chunk_size: int = CHUNK_SIZE) -> None:
        """projection: a tied embedding or a linear layer, quantized or not. softcap: of logits, None for no cap."""
        assert "bias" not in projection, "no Gemma has a biased head"
        self.projection, self.softcap = projection, softcap
        self.quantized = isinstance(projection, nn.QuantizedLinear | nn.QuantizedEmbedding)
        self.chunk_size, self.use_fast_math = chunk_size, fast_math.use_fast_math()
        self._fused = self._make_fused()

    def loss(self, hidden: mx.array, targets: mx.array, weights: mx.array, differentiable: bool = True) -> mx.array:
        """[] float32 sum of weighted cross entropies.

        hidden: [P, D] positions. targets: [P] token ids. weights: [P] float32, 0 where a position is padding.
        differentiable: whether the gradient is needed; without it the pass costs half.
        """
        if differentiable:
            return self._fused(hidden, targets, weights)[0]
        return sum((self._chunk_loss(*chunk)[0] for chunk in self._chunks(hidden, targets, weights)), mx.array(0.0))

    def _make_fused(self) -> Any:
        @mx.custom_function
        def fused(hidden: mx.array, targets: mx.array, weights: mx.array) -> tuple[mx.array, mx.array]:
            losses, gradients = [], []
            for states, *labels in self._chunks(hidden, targets, weights):
                # forces one chunk after the other: MLX would compute the logits of all chunks first
                states = mx.depends(states, gradients[-1:]) if gradients else states
                loss, logits_grad, target_grad = self._chunk_loss(states, *labels)
                losses.append(loss)
                hidden_grad = self._project_transposed(logits_grad.astype(hidden.dtype))
                gradients.append(hidden_grad - target_grad * self._target_rows(labels[0]))
            return sum(losses[1:], losses[0]), mx.concatenate(gradients) if len(gradients) > 1 else gradients[0]

        @fused.vjp
        def backward(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, mx.array, mx.array]:
            hidden, targets, weights = primals
            return (cotangents[0] * outputs[1]).astype(hidden.dtype), mx.zeros_like(targets), mx.zeros_like(weights)

        return fused

    def _chunks(self, *arrays: mx.array) -> list[tuple[mx.array, ...]]:
        positions = arrays[0].shape[0]
        count = math.ceil(positions / self.chunk_size)
        size = math.ceil(positions / count)
        return [tuple(array[start : start + size] for array in arrays) for start in range(0, positions, size)]

    def _chunk_loss(
        self, hidden: mx.array, targets: mx.array, weights: mx.array
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Loss [], and its gradient with respect to logits in two parts: the softmax [P, V], and the target's [P, 1].

        The gradient is the first part, minus the second one at each target.
        """
        logits = self._project(hidden)
        logits = logits if logits.dtype == mx.float64 else logits.astype(mx.float32)
        at_target, use_fast_math = targets[:, None], self.use_fast_math and logits.dtype == mx.float32
        if self.softcap is None:
            capped, slope = logits, None
        else:
            tanh = (fast_math.tanh if use_fast_math else mx.tanh)(logits * (1 / self.softcap))
            capped, slope = tanh * self.softcap, 1 - tanh * tanh
        if self.softcap is None or self.softcap > SAFE_SOFTCAP:
            capped, use_fast_math = capped - capped.max(-1, keepdims=True), False
        powers = (fast_math.exp if use_fast_math else mx.exp)(capped)
        total = powers.sum(-1, keepdims=True)
        loss = ((mx.log(total) - mx.take_along_axis(capped, at_target, -1)) * weights[:, None]).sum()
        logits_grad, target_grad = powers * (weights[:, None] / total), weights[:, None]
        if slope is not None:
            logits_grad, target_grad = logits_grad * slope, target_grad * mx.take_along_axis(slope, at_target, -1)
        return loss, logits_grad, target_grad.astype(hidden.dtype)

    def _project(self, hidden: mx.array) -> mx.array:
        tied = isinstance(self.projection, nn.Embedding | nn.QuantizedEmbedding)
        return self.projection.as_linear(hidden) if tied else self.projection(hidden)

    def _project_transposed(self, logits_grad: mx.array) -> mx.array:
        """[P, V] -> [P, D]: a product with the transpose of the projection."""
        p = self.projection
        if not self.quantized:
            return logits_grad @ p.weight
        return mx.quantized_matmul(
            logits_grad, p.weight, p.scales, p.get("biases"), transpose=False,
            group_size=p.group_size, bits=p.bits, mode=p.mode,
        )  # fmt: skip

    def _target_rows(self, targets: mx.array) -> mx.array:
        """[P] token ids -> [P, D], the projection's rows of the targets."""
        p = self.projection
        if not self.quantized:
            return p.weight[targets]
        biases = p.get("biases")
        return mx.dequantize(
            p.weight[targets], p.scales[targets], None if biases is None else biases[targets],
            group_size=p.group_size, bits=p.bits, mode=p.mode,
        )  # fmt: skip
