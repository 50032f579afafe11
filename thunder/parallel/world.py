"""The group of ranks this process belongs to: the one place that joins MLX's ring, strictly."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from thunder.errors import ClusterError


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


def join(environ: Mapping[str, str] = os.environ) -> World:
    """Join the ring that the launcher planned (THUNDER_WORLD_SIZE, MLX_RANK, MLX_HOSTFILE).

    MLX by itself falls back to a world of one when a variable is missing, and every Mac then trains alone;
    so the ring is asked for by name, strictly, and its size is checked against the plan.
    Call it before loading a model: MLX's connect retries give up after 31 s.

    Raises ClusterError where the ring cannot be formed or has another size than planned.
    """
    size = int(environ.get("THUNDER_WORLD_SIZE", "1"))
    job = int(environ.get("THUNDER_JOB_ID", "0"), 16)
    if size == 1:
        return World(job=job)
    try:
        group = mx.distributed.init(strict=True, backend="ring")
    except RuntimeError as error:
        raise ClusterError(
            f"rank {environ.get('MLX_RANK', '?')} could not join the ring of {size}: {error}",
            fix="see that no other run uses these ports and that every host of the cluster is up; then start again",
        ) from None
    if group.size() != size:
        raise ClusterError(
            f"the ring has {group.size()} ranks, the plan has {size}", fix="start the run through ./launch.sh"
        )
    return World(group.rank(), size, job, group)
