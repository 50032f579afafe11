"""Copy the output files of a remote rank to the launching machine; each file is checked and arrives whole or not at
all.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from thunder import digest
from thunder.cluster.inventory.cluster_file import Host
from thunder.cluster.ranks.agent import NOT_COLLECTED
from thunder.cluster.ranks.exit_causes import RankEnd
from thunder.cluster.ssh import client
from thunder.errors import ArtifactError

# Files that the launcher itself writes into the folder.
LAUNCHER_FILES = ("incidents.jsonl", "changes.jsonl", "end.json", "train.log")


def collect_outputs(end: RankEnd, host: Host, folder: Path) -> int:
    """Copy a rank's outputs into the local run folder; files that exist here already stay. Returns how many were
    copied.

    Raises SshError if the host cannot be reached, ArtifactError if a file did not arrive as announced or is announced
    at a place where none may be written.
    """
    for name in end.outputs:
        if not _is_allowed_output(name, folder):
            raise ArtifactError(
                f"{end.host} announced a file at a place where a remote host may not write: {name[:200]!r}"
            )
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
                    f"{end.host}:{end.folder}/{name}: its SHA-256 changed during the copy",
                    fix=f"./launch.sh resume {folder.name}",
                )
    return len(missing)


def _is_allowed_output(name: str, folder: Path) -> bool:
    """Whether a name means a file inside the run's folder (links followed) that is not one of the launcher's own."""
    parts = PurePosixPath(name).parts
    if (
        not parts
        or parts[0] in (*NOT_COLLECTED, *LAUNCHER_FILES)
        or any(part.startswith(".") for part in parts)
        or "\0" in name
    ):
        return False
    try:
        # an absolute name replaces the folder
        local_path = folder / name
        return local_path.parent.resolve().is_relative_to(folder.resolve()) and not local_path.is_dir()
    except (OSError, ValueError, RuntimeError):  # name too long; surrogate character; circular links
        return False


def _has_digest(path: Path, sha256: str) -> bool:
    return path.is_file() and digest.sha256_file(path) == sha256
