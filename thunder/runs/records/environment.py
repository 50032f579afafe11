"""What a run ran on: versions, machine, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from thunder import digest

RECORDED_PACKAGES = ("mlx", "mlx-lm", "numpy", "sentencepiece", "tokenizers", "transformers", "rapidfuzz")


def package_versions() -> dict[str, str]:
    """Versions of Python, of this package and of the packages that a result depends on."""
    from thunder import __version__

    found = {"python": platform.python_version(), "thunder": __version__}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "(not installed)"
    return found


def chip_name() -> str:
    """The processor's name."""
    if platform.system() == "Darwin":
        return _said(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def blas_name(environ: Mapping[str, str] = os.environ) -> str:
    """What is put before MLX's own BLAS, and how many threads it has; both decide in which order numbers are summed."""
    threads = environ.get("OPENBLAS_NUM_THREADS", "")
    return f"{Path(environ.get('LD_PRELOAD', '')).name} {threads}".strip()


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def current_commit(repository: Path) -> dict[str, Any]:
    """The repository's commit and whether tracked files differ from it; None where it is no git checkout."""
    revision = _said(["git", "-C", str(repository), "rev-parse", "HEAD"])
    status = _said(["git", "-C", str(repository), "status", "--porcelain", "--untracked-files=no"])
    return {"commit": revision or None, "dirty": bool(status) if revision else None}


def uncommitted_digest(repository: Path) -> str | None:
    """SHA-256 of what tracked files have otherwise than the commit; None where they have nothing."""
    changed = _said(["git", "-C", str(repository), "diff", "HEAD"])
    return digest.sha256_bytes(changed.encode()) if changed else None


def _said(command: list[str]) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def describe_environment(repository: Path) -> dict[str, Any]:
    """Everything, as it stands in environment.json."""
    return {
        "versions": package_versions(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "chip": chip_name(),
        "cores": core_count(),
        **current_commit(repository),
        "diff_sha256": uncommitted_digest(repository),
    }
