"""Describe the environment of a run: versions, machine, commit."""

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
    """Return the versions of Python, of this package and of the packages that a result depends on."""
    from thunder.version import __version__

    versions = {"python": platform.python_version(), "thunder": __version__}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "(not installed)"
    return versions


def chip_name() -> str:
    """Return the processor's name."""
    if platform.system() == "Darwin":
        return _command_output(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def blas_name(environ: Mapping[str, str] = os.environ) -> str:
    """Return the BLAS that replaces MLX's own and its number of threads; both determine the order of summation."""
    threads = environ.get("OPENBLAS_NUM_THREADS", "")
    return f"{Path(environ.get('LD_PRELOAD', '')).name} {threads}".strip()


def core_count() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def current_commit(repository: Path) -> dict[str, Any]:
    """Return the repository's commit and whether tracked files differ from it; None without a git checkout."""
    revision = _command_output(["git", "-C", str(repository), "rev-parse", "HEAD"])
    status = _command_output(["git", "-C", str(repository), "status", "--porcelain", "--untracked-files=no"])
    return {"commit": revision or None, "dirty": bool(status) if revision else None}


def uncommitted_digest(repository: Path) -> str | None:
    """Return the SHA-256 of the difference between tracked files and the commit; None where there is none."""
    changed = _command_output(["git", "-C", str(repository), "diff", "HEAD"])
    return digest.sha256_bytes(changed.encode()) if changed else None


def _command_output(command: list[str]) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def describe_environment(repository: Path) -> dict[str, Any]:
    """Return the content of environment.json."""
    return {
        "versions": package_versions(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "chip": chip_name(),
        "cores": core_count(),
        **current_commit(repository),
        "diff_sha256": uncommitted_digest(repository),
    }
