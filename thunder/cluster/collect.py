"""Bring what a run made on another host to the launching machine: each file checked, whole or not at all."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from thunder import digest
from thunder.cluster import ssh
from thunder.cluster.ends import RankEnd
from thunder.cluster.hosts import Host
from thunder.errors import ArtifactError


def collect(end: RankEnd, host: Host, folder: Path) -> int:
    """Copy what a rank left behind into the run's folder here; files that are here already stay. Returns how many came.

    Raises SshError where the host cannot be reached, ArtifactError where a file did not arrive as it was announced,
    or is announced outside of the run's folder.
    """
    wanted = {name: told for name, told in end.left.items() if not _is_here(folder / name, told)}
    outside = [name for name in wanted if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    if outside:
        raise ArtifactError(f"{end.host} announced a file outside of the run's folder: {outside[0]!r}")
    if not wanted:
        return 0
    with ssh.connect(host.ssh or host.name) as connection:
        for name, told in wanted.items():
            near = folder / name
            near.parent.mkdir(parents=True, exist_ok=True)
            connection.fetch(f"{end.folder}/{name}", near)
            if not _is_here(near, told):
                near.unlink()
                raise ArtifactError(
                    f"{end.host}:{end.folder}/{name}: it arrived with another SHA-256 than it left with",
                    fix=f"./launch.sh resume {folder.name}",
                )
    return len(wanted)


def _is_here(path: Path, told: str) -> bool:
    return path.is_file() and digest.of_file(path) == told
