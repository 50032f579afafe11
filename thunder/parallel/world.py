"""The group of ranks this process belongs to: the one place that joins MLX's ring, strictly."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from thunder.errors import ClusterError, RunFailed

# Said by every rank in the ring's first collective. A new PROTOCOL where ranks would no longer understand each other.
MAGIC, PROTOCOL = 0x54_48_55_4E, 2
_WORD = 2**31


@dataclass(frozen=True)
class World:
    """rank of size, in a run called job; `group` is None in a world of one, where every collective is the identity."""

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

    MLX by itself falls back to a world of one when a variable is missing, and every Mac then trains alone;
    so the ring is asked for by name, strictly, and its size is checked against the plan.
    Call it before loading a model: MLX's connect retries give up after 31 s.

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
    _greet(world)
    return world


def greeting(job: int, rank: int, size: int) -> list[int]:
    """What a rank says first: five numbers of 31 bits at the most, whatever the job."""
    return [MAGIC, job % _WORD, job // _WORD % _WORD, rank, size * 256 + PROTOCOL]


def _greet(world: World) -> None:
    """The first collective: of one size for every job and version, so that a stranger's answer cannot be misread.

    Ports are shared silently (SO_REUSEPORT): two jobs on one port cross-connect without an error from MLX.
    It is done twice: of four ranks in one ring of two jobs, one can hear its own peer in the first round only.
    """
    expected = [greeting(world.job, rank, world.size) for rank in range(world.size)]
    for _ in range(2):
        try:
            said = mx.distributed.all_gather(mx.array(expected[world.rank], mx.int32), group=world.group, stream=mx.cpu)
            mx.eval(said)
        except RuntimeError as error:
            raise RunFailed(f"rank {world.rank}: the ring broke while it was greeted: {error}", fix=_ALONE) from None
        heard = np.array(said).reshape(world.size, -1).tolist()
        if heard != expected:
            jobs = ", ".join(_job_of(words) for words in heard)
            raise RunFailed(
                f"rank {world.rank}: another job answered on this run's ports: "
                f"job {world.job:x} of {world.size} ranks is expected, heard: {jobs}",
                fix=_ALONE,
            )


_ALONE = "see that no other run uses these ports, then start again"


def _job_of(words: list[int]) -> str:
    if words[0] != MAGIC:
        return "no rank of Thunder Train"
    size, protocol = divmod(words[4], 256)
    return f"job {words[2] * _WORD + words[1]:x} rank {words[3]} of {size} (protocol {protocol})"
