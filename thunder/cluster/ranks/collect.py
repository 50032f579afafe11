"""Bring what a run made on another host to the launching machine: each file checked, whole or not at all."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from thunder import digest
from thunder.cluster.inventory.cluster_file import Host
from thunder.cluster.ranks.agent import NOT_COLLECTED
from thunder.cluster.ranks.exit_causes import RankEnd
from thunder.cluster.ssh import client
from thunder.errors import ArtifactError

# What the launcher itself writes into the folder.
LAUNCHER_FILES = ("incidents.jsonl", "changes.jsonl", "end.json", "train.log")


def collect_outputs(end: RankEnd, host: Host, folder: Path) -> int:
    """Copy what a rank left behind into the run's folder here; files that are here already stay. Returns how many came.

    Raises SshError where the host cannot be reached, ArtifactError where a file did not arrive as it was announced,
    or is announced where none may be written.
    """
    for name in end.outputs:
        if not _is_allowed_output(name, folder):
            raise ArtifactError(f"{end.host} announced a file where none may come from another host: {name[:200]!r}")
    missing = {name: sha256 for name, sha256 in end.outputs.items() if not _has_digest(folder / name, sha256)}
    if not missing:
        return 0
    with client.connect_ssh(host.ssh or host.name) as connection:
        for name, sha256 in missing.items():
            local_path = folder / name
            try:
                local_path.parent.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise ArtifactError(
                    f"{local_path.parent} is a file, and {end.host} announced one inside of it"
                ) from None
            connection.fetch(f"{end.folder}/{name}", local_path)
            if not _has_digest(local_path, sha256):
                local_path.unlink()
                raise ArtifactError(
                    f"{end.host}:{end.folder}/{name}: it arrived with another SHA-256 than it left with",
                    fix=f"./launch.sh resume {folder.name}",
                )
    return len(missing)


def _is_allowed_output(name: str, folder: Path) -> bool:
    """Whether a name means a file inside the run's folder, links followed, that is not the launcher's own."""
    parts = PurePosixPath(name).parts
    if (
        not parts
        or parts[0] in (*NOT_COLLECTED, *LAUNCHER_FILES)
        or any(part.startswith(".") for part in parts)
        or "\0" in name
    ):
        return False
    try:
        # an absolute name takes the place of the folder
        local_path = folder / name
        return local_path.parent.resolve().is_relative_to(folder.resolve()) and not local_path.is_dir()
    except (OSError, ValueError, RuntimeError):  # too long; half a character; links that turn in a circle
        return False


def _has_digest(path: Path, sha256: str) -> bool:
    return path.is_file() and digest.sha256_file(path) == sha256
