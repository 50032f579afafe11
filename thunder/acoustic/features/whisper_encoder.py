"""Whisper's encoder in MLX: two convolutions, sinusoidal positions, pre-norm attention blocks (Radford et al. 2022)."""

from __future__ import annotations

import math

import mlx.core as mx
import mlx.nn as nn

from thunder.acoustic.features.whisper_config import POSITIONS, EncoderSizes


def sinusoids(length: int, width: int) -> mx.array:
    """[length, width]: sines, then cosines, with wavelengths from 2 pi to 20,000 pi."""
    rates = mx.exp(-math.log(10000) / (width // 2 - 1) * mx.arange(width // 2))
    angles = mx.arange(length)[:, None] * rates[None]
    return mx.concatenate([mx.sin(angles), mx.cos(angles)], axis=1)


class WhisperAttention(nn.Module):
    """Full self-attention over the frames; the key projection has no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def __call__(self, x: mx.array) -> mx.array:
        """[B, T, D] -> [B, T, D]."""
        batch, time, width = x.shape
        q, k, v = (
            project(x).reshape(batch, time, self.heads, -1).transpose(0, 2, 1, 3)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = mx.fast.scaled_dot_product_attention(q, k, v, scale=(width // self.heads) ** -0.5)
        return self.out_proj(attended.transpose(0, 2, 1, 3).reshape(batch, time, width))


class WhisperBlock(nn.Module):
    """Pre-norm attention and MLP, each with a residual connection."""

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.self_attn = WhisperAttention(sizes.width, sizes.heads)
        self.self_attn_layer_norm = nn.LayerNorm(sizes.width)
        self.fc1, self.fc2 = nn.Linear(sizes.width, sizes.inner), nn.Linear(sizes.inner, sizes.width)
        self.final_layer_norm = nn.LayerNorm(sizes.width)

    def __call__(self, x: mx.array) -> mx.array:
        """[B, T, D] -> [B, T, D]."""
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        return x + self.fc2(nn.gelu(self.fc1(self.final_layer_norm(x))))


class WhisperEncoder(nn.Module):
    """Parameters have the names that Hugging Face gives them below `model.encoder`."""

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.conv1 = nn.Conv1d(sizes.n_mels, sizes.width, 3, padding=1)
        self.conv2 = nn.Conv1d(sizes.width, sizes.width, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(POSITIONS, sizes.width)
        self.embed_positions.weight = sinusoids(POSITIONS, sizes.width)
        self.layers = [WhisperBlock(sizes) for _ in range(sizes.layers)]
        self.layer_norm = nn.LayerNorm(sizes.width)

    def __call__(self, mel: mx.array) -> mx.array:
        """Log-mel [B, 3000, n_mels] of 30 s -> [B, 1500, D]."""
        assert mel.shape[1:] == (2 * POSITIONS, self.sizes.n_mels), f"{mel.shape}"
        x = nn.gelu(self.conv2(nn.gelu(self.conv1(mel.astype(self.conv1.weight.dtype)))))
        x = x + self.embed_positions.weight
        for block in self.layers:
            x = block(x)
        return self.layer_norm(x)
