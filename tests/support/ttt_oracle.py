"""The chunk update in float64, a frame at a time with plain loops, and arrays to try it on."""

from __future__ import annotations

import numpy as np


def ttt_update(q, k, v, eta, state, retention, size, inclusive=False, hebbian=False):
    """(y [B, T, H, Dv], state [B, H, D, Dv]): every frame's own rank-one step, written out."""
    q, k, v, eta, state, retention = (np.array(x, np.float64) for x in (q, k, v, eta, state, retention))
    (rows, length, heads, _), y = q.shape, np.zeros(v.shape)
    for row in range(rows):
        for head in range(heads):
            weight = state[row, head]
            for begin in range(0, length, size):
                total = np.zeros_like(weight)
                for frame in range(begin, min(begin + size, length)):
                    key = k[row, frame, head]
                    error = (0 if hebbian else key @ weight) - v[row, frame, head]
                    total += eta[row, frame, head] * np.outer(key, error)
                    y[row, frame, head] = q[row, frame, head] @ (weight - total if inclusive else weight)
                weight = retention[head] * weight - total
            state[row, head] = weight
    return y, state


def random_arrays(seed, rows=2, length=37, heads=2, width=16, values=24, step=0.3):
    """q, k (unit length), v, eta with masked tails, state, retention; float32."""
    draw = np.random.default_rng(seed)

    def normal(*shape):
        return draw.standard_normal(shape).astype(np.float32)

    def unit(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    q, k = unit(normal(rows, length, heads, width)), unit(normal(rows, length, heads, width))
    lengths = draw.integers(length // 2, length + 1, rows)
    lengths[0] = length
    eta = step * draw.random((rows, length, heads)) * (np.arange(length) < lengths[:, None])[..., None]
    state = 0.2 * normal(rows, heads, width, values)
    retention = np.linspace(0.9, 1.0, heads)
    return q, k, normal(rows, length, heads, values), eta.astype(np.float32), state, retention.astype(np.float32)
