"""Pack the evidence of a failed run: logs with stack dumps, incidents, plan and versions."""

from __future__ import annotations

import io
import tarfile
import time
from pathlib import Path

MOST_BYTES = 5 << 20  # bytes that are packed from the end of each file
PACKED_NAMES = ("incidents.jsonl", "plan.json", "environment.json", "config.yaml", "train.log", "metrics.jsonl")


def pack_incident(folder: Path) -> Path:
    """Write `incident-<date>-<time>.tar.gz` into the run's folder, atomically; missing files are left out.

    Raises OSError where it cannot be written.
    """
    bundle = folder / f"incident-{time.strftime('%Y%m%d-%H%M%S')}.tar.gz"
    beside = folder / f".{bundle.name}.tmp"
    try:
        with tarfile.open(beside, "w:gz") as archive:
            for path in [*(folder / name for name in PACKED_NAMES), *sorted((folder / "logs").glob("*.log"))]:
                if path.is_file():
                    _add(archive, path, f"{folder.name}/{path.relative_to(folder)}")
        beside.replace(bundle)
    finally:
        beside.unlink(missing_ok=True)
    return bundle


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - MOST_BYTES))
        data = stream.read(MOST_BYTES)
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(data), int(path.stat().st_mtime)
    archive.addfile(member, io.BytesIO(data))
