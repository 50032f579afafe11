"""CTC head over frozen features: a linear layer, temporal downsampling and a Transformer encoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx
from mlx import nn

from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.head.row_dropout import RowDropout
from thunder.acoustic.head.ttt import AdapterOutput, FastWeights
from thunder.acoustic.trajectory.scalars import SCALARS

MASKED_LOGIT = -1e9  # attention logit of a masked position


@dataclass(frozen=True)
class HeadSizes:
    """Sizes of a head. kernel: width of each convolution in frames; only the first convolution has a stride."""

    width: int
    layers: int
    heads: int
    feed_forward: int
    kernel: int
    convolutions: int
    positions: int = 0  # learned ones; 0 = sinusoids
    activation: Callable[[mx.array], mx.array] = nn.gelu


HEAD_SIZES = {
    # 46.9 M parameters over features of width 1280 with 64 outputs, as published
    "transformer-768": HeadSizes(768, 6, 12, 3072, kernel=5, convolutions=1, positions=512),
    # relu: gelu takes eight times as long on a CPU, longer than the matrix products
    "small": HeadSizes(144, 2, 4, 288, kernel=5, convolutions=2, activation=nn.relu),
}


class HeadAttention(nn.Module):
    """Self-attention over [B, T, W]; `bias` [B, T, H] is added to the logits of each key."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def __call__(self, x: mx.array, mask: mx.array, bias: mx.array | None) -> mx.array:
        rows, length, width = x.shape
        q, k, v = (
            layer(x).reshape(rows, length, self.heads, -1).swapaxes(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        scale = 1 / math.sqrt(width // self.heads)
        if bias is None:
            y = mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)
        else:  # plain operations: the fused one may not pass a gradient to its mask
            y = mx.softmax((q * scale) @ k.swapaxes(-1, -2) + mask + bias.swapaxes(1, 2)[:, :, None], -1) @ v
        return self.output(y.swapaxes(1, 2).reshape(rows, length, width))


class HeadBlock(nn.Module):
    """One pre-norm Transformer layer."""

    def __init__(self, sizes: HeadSizes, dropout: float, layer: int) -> None:
        super().__init__()
        self.attention_norm, self.feed_norm = nn.LayerNorm(sizes.width), nn.LayerNorm(sizes.width)
        self.attention = HeadAttention(sizes.width, sizes.heads)
        self.widen, self.narrow = nn.Linear(sizes.width, sizes.feed_forward), nn.Linear(sizes.feed_forward, sizes.width)
        self.dropouts = [RowDropout(dropout, 1 + 3 * layer + place) for place in range(3)]
        self.activation = sizes.activation

    def __call__(
        self, x: mx.array, mask: mx.array, bias: mx.array | None, row_keys: mx.array | None = None
    ) -> mx.array:
        after_attention, inside, after_feed = self.dropouts
        x = x + after_attention(self.attention(self.attention_norm(x), mask, bias), row_keys)
        widened = inside(self.activation(self.widen(self.feed_norm(x))), row_keys)
        return x + after_feed(self.narrow(widened), row_keys)


class TimeConvolution(nn.Module):
    """A convolution over time as one matrix product.

    The gradient of MLX's strided convolution takes ten times as long on a CPU.
    """

    def __init__(self, width: int, kernel: int, stride: int, causal: bool) -> None:
        super().__init__()
        self.kernel, self.stride, self.causal = kernel, stride, causal
        bound = 1 / math.sqrt(kernel * width)
        self.weight = mx.random.uniform(-bound, bound, (kernel * width, width))
        self.bias = mx.zeros(width)

    def __call__(self, x: mx.array) -> mx.array:
        """[B, ceil(T / stride), W] of [B, T, W], with zeros at both ends."""
        frames = downsampled_frames(x.shape[1], self.stride)
        # a causal output frame ends at the last input frame of its stride
        before = self.kernel - self.stride if self.causal else (self.kernel - 1) // 2
        after = (frames - 1) * self.stride + self.kernel - x.shape[1] - before
        x = mx.pad(x, [(0, 0), (before, max(after, 0)), (0, 0)])
        last = (frames - 1) * self.stride + 1
        patches = mx.concatenate([x[:, offset : offset + last : self.stride] for offset in range(self.kernel)], -1)
        return patches @ self.weight + self.bias


class ConvolutionStem(nn.Module):
    """Convolutions over time; the first one has the stride."""

    def __init__(self, sizes: HeadSizes, stride: int, causal: bool) -> None:
        super().__init__()
        strides = (stride, *[1] * (sizes.convolutions - 1))
        self.layers = [TimeConvolution(sizes.width, sizes.kernel, layer_stride, causal) for layer_stride in strides]
        self.activation = sizes.activation

    def __call__(self, x: mx.array, lengths: mx.array) -> tuple[mx.array, mx.array]:
        """([B, T', W], lengths [B]); frames beyond an utterance's length are zero and are not read."""
        for layer in self.layers:
            x = self.activation(layer(x * frame_mask(lengths, x.shape[1])[..., None]))
            lengths = (lengths + layer.stride - 1) // layer.stride
        return x, lengths


class CTCHead(nn.Module):
    """Features [B, T, D] to CTC logits [B, T', V], T' = ceil(T / downsample), blank 0.

    Layers of a mode are created last and start as zero: with one seed, all modes start from the same function.
    """

    def __init__(self, settings: AcousticSettings, width: int, labels: int) -> None:
        super().__init__()
        sizes = HEAD_SIZES[settings.head]
        self.shape, self.causal = sizes, settings.causal
        self.enter = nn.Linear(width, sizes.width)
        self.stem = ConvolutionStem(sizes, settings.downsample, settings.causal)
        if sizes.positions:
            self.places = mx.random.normal((sizes.positions, sizes.width)) * 0.02
        self.blocks = [HeadBlock(sizes, settings.dropout, layer) for layer in range(sizes.layers)]
        self.norm = nn.LayerNorm(sizes.width)
        self.leave = nn.Linear(sizes.width, labels)
        self.dropout = RowDropout(settings.dropout, 0)
        self.add_scalars = self.bias_scalars = self.adapter = None
        if "trajectory" in settings.parts and settings.conditioning == "add":
            self.add_scalars = mx.zeros((len(SCALARS), sizes.width))
        elif "trajectory" in settings.parts:
            self.bias_scalars = mx.zeros((sizes.layers, len(SCALARS), sizes.heads))
        if "ttt" in settings.parts:
            self.adapter = FastWeights(
                sizes.width, settings.ttt_heads, settings.ttt_head_dim,
                settings.ttt_chunk_size, settings.ttt_lr, settings.ttt_cap,
            )  # fmt: skip

    def __call__(self, x: mx.array, lengths: mx.array, scalars: mx.array, row_keys: mx.array | None = None) -> mx.array:
        """Logits [B, T', V] of features [B, T, D], lengths [B] and standardized scalars [B, T', 7].

        row_keys: [B] uint32 that decide each row's dropout in training.
        """
        return self.forward_with_adapter(x, lengths, scalars, row_keys)[0]

    def forward_with_adapter(
        self, x: mx.array, lengths: mx.array, scalars: mx.array, row_keys: mx.array | None = None
    ) -> tuple[mx.array, AdapterOutput | None]:
        """The logits, and the output of the test-time-training adapter if the head has one."""
        x, mask = self.encode(x, lengths, scalars, row_keys)
        adapted = None
        if self.adapter is not None:
            adapted = self.adapter.adapt(x, mask)
            x = adapted.out
        return self.leave(self.norm(x)), adapted

    def encode(
        self, x: mx.array, lengths: mx.array, scalars: mx.array, row_keys: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        """Frames [B, T', W] after the Transformer, and the mask [B, T'] of valid frames."""
        x, lengths = self.stem(self.enter(x), lengths)
        mask = frame_mask(lengths, x.shape[1])
        x = x + self.positions(x.shape[1])
        if self.add_scalars is not None:
            x = x + scalars @ self.add_scalars
        x = self.dropout(x, row_keys)
        attention_mask = mx.where(mask[:, None, None] > 0, 0.0, MASKED_LOGIT)
        if self.causal:
            attention_mask = attention_mask + mx.triu(mx.full((x.shape[1], x.shape[1]), MASKED_LOGIT), 1)
        for layer, block in enumerate(self.blocks):
            bias = None if self.bias_scalars is None else scalars @ self.bias_scalars[layer]
            x = block(x, attention_mask, bias, row_keys)
        return x, mask

    def positions(self, length: int) -> mx.array:
        """Positional encodings [T', W]: learned, or sinusoids."""
        if self.shape.positions:
            return self.places[:length]
        half = self.shape.width // 2
        angles = mx.arange(length)[:, None] * mx.exp(mx.arange(half) * (-math.log(10000) / (half - 1)))
        return mx.concatenate([mx.sin(angles), mx.cos(angles)], -1)

    @property
    def max_frames(self) -> int | None:
        """Largest number of frames T' that the head takes; None: no limit."""
        return self.shape.positions or None


def frame_mask(lengths: mx.array, frames: int) -> mx.array:
    """[B, T] float32: 1 for valid frames, 0 beyond each length."""
    return (mx.arange(frames) < lengths[:, None]).astype(mx.float32)


def downsampled_frames(frames: int, downsample: int) -> int:
    """T' = ceil(T / downsample)."""
    return -(-frames // downsample)
