"""Export the project's committed files for a machine without a clone."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from thunder.errors import UsageError


def export_checkout(repository: Path, folder: Path) -> None:
    """Write the files of the last commit into a folder.

    Raises UsageError if the project is not a git checkout.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), "archive", "--format=tar", "HEAD"],
            capture_output=True,
            timeout=120,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        raise UsageError(f"{repository} is not a git checkout", fix="rent from a clone of the project") from None
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
