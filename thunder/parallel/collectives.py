"""Reductions over ranks, with a header in each buffer that detects ranks which are out of step.

MLX's ring has no handshake and no tags: one collective too many on one rank shifts every later sum without an error.
So each reduction uses one buffer, one collective and one evaluation, and checks the header after the sum. Collectives
run on the CPU stream: a GPU command buffer never waits for another rank.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from thunder.errors import RunFailed
from thunder.parallel.world import World

# float32 adds integers exactly up to 2**24: fields below FIELD can be summed over MOST_RANKS ranks.
MOST_RANKS = 64
FIELD = 2**24 // MOST_RANKS
_JOB, _STEP, _LENGTH, _TOKENS_HIGH, _TOKENS_LOW, _NOT_FINITE, _STOP = range(7)
HEADER = 7
LARGEST_JSON = 64 * 2**20
LARGEST_BROADCAST = 2**40
BROADCAST_CHUNK = 16 * 2**20
RESUME = "resume from the last checkpoint: `./launch.sh resume`"
_SPLIT = 4096  # token counts travel as high * 4096 + low: their sum stays exact far beyond 2**24


def gradient_header(job: int, step: int, length: int, tokens: int, finite: bool, stop: bool) -> list[int]:
    """The header of a gradient buffer: HEADER integers below FIELD. length: numbers in the payload."""
    return [job % FIELD, step % FIELD, length % FIELD, tokens // _SPLIT, tokens % _SPLIT, int(not finite), int(stop)]


@dataclass(frozen=True)
class ReducedGradients:
    """Result of a gradient reduction: tree, tokens and loss summed over ranks.

    finite: whether every number of every rank was. stop: whether any rank was asked to stop.
    """

    tree: dict[str, Any]
    loss_sum: float
    tokens: int
    finite: bool
    stop: bool


def sum_array(world: World, buffer: mx.array) -> mx.array:
    """all_sum of one buffer [N], evaluated before and after it, on the CPU stream."""
    mx.eval(buffer)
    if world.group is None:
        return buffer
    total = mx.distributed.all_sum(buffer, group=world.group, stream=mx.cpu)
    return _received(world, total)


def _received(world: World, array: mx.array) -> mx.array:
    """Evaluate a collective. Raises RunFailed where the ring breaks meanwhile."""
    try:
        mx.eval(array)
    except RuntimeError as error:
        if "[ring]" not in str(error):
            raise
        raise RunFailed(
            f"rank {world.rank}: {error}: another rank has ended, or found that the ranks are out of step", fix=RESUME
        ) from None
    return array


def sum_gradients(
    world: World, gradients: dict[str, Any], *, step: int, loss_sum: mx.array, tokens: int, stop: bool = False
) -> ReducedGradients:
    """Sum a tree of gradients of *summed* losses over all ranks.

    gradients: the same tree of arrays on every rank (any dtype; summed in float32).
    loss_sum: [] this rank's summed loss; tokens: its supervised tokens (0 where this rank had no row).
    stop: this rank was asked to end after the step; every rank learns it in the same step.

    Raises RunFailed where the ranks are not at the same step of the same job with the same payload.
    """
    flat = tree_flatten(gradients)
    with mx.stream(mx.cpu):
        parts = [array.reshape(-1).astype(mx.float32) for _, array in flat]
        payload = mx.concatenate([*parts, loss_sum.reshape(1).astype(mx.float32)])
        finite = bool(mx.all(mx.isfinite(payload)).item())
        local = gradient_header(world.job, step, payload.size, tokens, finite, stop)
        total = sum_array(world, mx.concatenate([mx.array(local, mx.float32), payload]))
    summed = [int(value) for value in np.array(total[:HEADER])]
    for field, name in ((_JOB, "job"), (_STEP, "step"), (_LENGTH, "payload length")):
        if summed[field] != local[field] * world.size:
            raise RunFailed(
                f"ranks are out of step: {name} is {local[field]} on rank {world.rank}, "
                f"but the {world.size} ranks add up to {summed[field]}",
                fix=RESUME,
            )
    arrays, start = [], HEADER
    with mx.stream(mx.cpu):
        for (name, array), part in zip(flat, parts, strict=True):
            arrays.append((name, total[start : start + part.size].reshape(array.shape)))
            start += part.size
        mx.eval([array for _, array in arrays])
    return ReducedGradients(
        tree=tree_unflatten(arrays),
        loss_sum=float(total[-1].item()),
        tokens=summed[_TOKENS_HIGH] * _SPLIT + summed[_TOKENS_LOW],
        finite=summed[_NOT_FINITE] == 0,
        stop=summed[_STOP] > 0,
    )


def sum_numbers(world: World, numbers: list[float]) -> list[float]:
    """Sum a few numbers over ranks, exactly to float64 by carrying each as three float32 parts."""
    parts = []
    for number in numbers:
        high = np.float32(number)
        middle = np.float32(number - float(high))
        parts += [high, middle, np.float32(number - float(high) - float(middle))]
    gathered = gather_array(world, mx.array(np.array(parts, np.float32)))
    return [float(np.asarray(gathered, np.float64)[:, i * 3 : i * 3 + 3].sum()) for i in range(len(numbers))]


def gather_array(world: World, array: mx.array) -> np.ndarray:
    """[N] on every rank (same N, same dtype) -> [ranks, N]."""
    mx.eval(array)
    if world.group is None:
        return np.array(array)[None]
    gathered = mx.distributed.all_gather(array, group=world.group, stream=mx.cpu)
    return np.array(_received(world, gathered)).reshape(world.size, -1)


def gather_json(world: World, value: Any) -> list[Any]:
    """A JSON value from every rank, in the order of ranks, on every rank.

    Raises RunFailed where a length or a text is impossible: the ranks are out of step.
    """
    data = np.frombuffer(json.dumps(value, ensure_ascii=False).encode(), np.uint8)
    lengths = gather_array(world, mx.array([len(data)], mx.int32))[:, 0]
    if lengths.min() < 0 or lengths.max() > LARGEST_JSON:
        raise RunFailed(
            f"the ranks announce JSON values of {lengths.tolist()} bytes, at most {LARGEST_JSON} are possible: "
            "ranks are out of step, or another job answers",
            fix=RESUME,
        )
    padded = np.zeros(-(-int(lengths.max()) // 4) * 4, np.uint8)
    padded[: len(data)] = data
    rows = gather_array(world, mx.array(padded.view(np.int32))).astype(np.int32)
    try:
        return [json.loads(rows[rank].tobytes()[: lengths[rank]].decode()) for rank in range(world.size)]
    except ValueError as error:
        raise RunFailed(f"the gathered bytes are no JSON: ranks are out of step: {error}", fix=RESUME) from None


def broadcast_bytes(world: World, source: int, data: bytes | None) -> bytes:
    """Send the bytes of rank `source` (the other ranks give None) to every rank, bit for bit.

    They are sent as integers, to which all other ranks add zeros: floats could change NaN payloads or signed zeros.

    Raises RunFailed where the received bytes are not the sent ones, or the ranks are out of step.
    """
    assert (data is not None) == (world.rank == source)
    if world.group is None:
        assert data is not None
        return data
    sent = np.zeros(12, np.uint32)
    sent[:2] = 1, source
    if data is not None:
        sent[2:4] = divmod(len(data), 2**32)
        sent[4:] = np.frombuffer(hashlib.sha256(data).digest(), np.uint32)
    received = _add(world, sent)
    length, sha256 = (int(received[2]) << 32) + int(received[3]), received[4:].tobytes()
    if received[0] != world.size or received[1] != source * world.size or length > LARGEST_BROADCAST:
        raise RunFailed(
            f"ranks are out of step: rank {world.rank} expects a file from rank {source} and receives {received[:4]}",
            fix=RESUME,
        )
    received_bytes = bytearray()
    for start in range(0, length, BROADCAST_CHUNK):
        piece = np.zeros(-(-min(BROADCAST_CHUNK, length - start) // 4), np.uint32)
        if data is not None:
            local = np.frombuffer(data[start : start + BROADCAST_CHUNK], np.uint8)
            piece.view(np.uint8)[: len(local)] = local
        received_bytes += _add(world, piece).tobytes()
    result = bytes(received_bytes[:length])
    if hashlib.sha256(result).digest() != sha256:
        raise RunFailed(
            f"{length} bytes from rank {source} did not arrive at rank {world.rank} as they were sent", fix=RESUME
        )
    return result


def _add(world: World, words: np.ndarray) -> np.ndarray:
    """all_sum of uint32 words [N] (modulo 2**32)."""
    return np.array(sum_array(world, mx.array(words)))
