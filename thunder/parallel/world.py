"""Join the ring of ranks that the launcher planned; no other module joins MLX's ring."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from thunder.errors import ClusterError, RunFailed

# Sent by every rank in the ring's first collective. PROTOCOL gets a new number where ranks of two versions differ.
MAGIC, PROTOCOL = 0x54_48_55_4E, 2
_WORD = 2**31


@dataclass(frozen=True)
class World:
    """This process's rank among `size` ranks of the run `job`.

    `group` is None in a world of one, where every collective is the identity.
    """

    rank: int = 0
    size: int = 1
    job: int = 0
    group: Any = None

    @property
    def is_main(self) -> bool:
        """Rank 0 writes what the run leaves behind; the others write only their own files."""
        return self.rank == 0


def join_world(environ: Mapping[str, str] = os.environ) -> World:
    """Join the ring that the launcher planned (THUNDER_WORLD_SIZE, THUNDER_BACKEND, MLX_RANK, MLX_HOSTFILE).

    MLX falls back to a world of one when a variable is missing, and every Mac then trains alone. So this function names
    the backend, uses MLX's strict mode, and checks the size against the plan.
    Call it before loading a model: MLX stops its attempts to connect after 31 s.

    Raises ClusterError where the ring cannot be formed or has another size than planned, RunFailed where a rank of
    another job is in it.
    """
    size = int(environ.get("THUNDER_WORLD_SIZE", "1"))
    job = int(environ.get("THUNDER_JOB_ID", "0"), 16)
    if size == 1:
        return World(job=job)
    backend = environ.get("THUNDER_BACKEND", "ring")
    try:
        group = mx.distributed.init(strict=True, backend=backend)
    except RuntimeError as error:
        raise ClusterError(
            f"rank {environ.get('MLX_RANK', '?')} could not join the ring of {size} ({backend}): {error}",
            fix="see that no other run uses these ports and that every host of the cluster is up; then start again",
        ) from None
    if group.size() != size:
        raise ClusterError(
            f"the ring has {group.size()} ranks, the plan has {size}", fix="start the run through ./launch.sh"
        )
    world = World(group.rank(), size, job, group)
    _check_greetings(world)
    return world


def greeting(job: int, rank: int, size: int) -> list[int]:
    """A rank's first message: five numbers of at most 31 bits, for every job."""
    return [MAGIC, job % _WORD, job // _WORD % _WORD, rank, size * 256 + PROTOCOL]


def _check_greetings(world: World) -> None:
    """The first collective: of one size for every job and version, so that a rank of another job is recognized.

    Ports are shared silently (SO_REUSEPORT): two jobs on one port cross-connect without an error from MLX.
    It runs twice: of four ranks in one ring of two jobs, one may receive only its own peer's message at first.
    """
    expected = [greeting(world.job, rank, world.size) for rank in range(world.size)]
    for _ in range(2):
        try:
            local = mx.array(expected[world.rank], mx.int32)
            gathered = mx.distributed.all_gather(local, group=world.group, stream=mx.cpu)
            mx.eval(gathered)
        except RuntimeError as error:
            raise RunFailed(
                f"rank {world.rank}: the ring broke during the first collective: {error}", fix=_FREE_PORTS
            ) from None
        received = np.array(gathered).reshape(world.size, -1).tolist()
        if received != expected:
            jobs = ", ".join(_describe_greeting(words) for words in received)
            raise RunFailed(
                f"rank {world.rank}: another job answered on this run's ports: "
                f"expected job {world.job:x} of {world.size} ranks, received: {jobs}",
                fix=_FREE_PORTS,
            )


_FREE_PORTS = "see that no other run uses these ports, then start again"


def _describe_greeting(words: list[int]) -> str:
    if words[0] != MAGIC:
        return "no rank of Thunder Train"
    size, protocol = divmod(words[4], 256)
    return f"job {words[2] * _WORD + words[1]:x} rank {words[3]} of {size} (protocol {protocol})"
