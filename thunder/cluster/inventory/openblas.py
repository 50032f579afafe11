"""Find OpenBLAS on Linux: MLX's CPU wheel contains a reference BLAS, which is 10 to 50 times slower."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from thunder.errors import ConfigError

LIBRARY_ROOTS = (Path("/usr/lib64"), Path("/usr/lib"))
INSTALL_HINT = "apt-get install libopenblas0-pthread (Fedora: dnf install openblas-threads)"
# The pthreads build first: MLX calls BLAS from its own threads, and the OpenMP build starts a thread pool for each.
LIBRARY_NAMES = (
    "{triplet}/openblas-pthread/libopenblas.so.0",
    "libopenblasp.so.0",
    "{triplet}/libopenblas.so.0",
    "libopenblas.so.0",
)


def find_openblas(
    system: str,
    roots: Sequence[Path] = LIBRARY_ROOTS,
    environ: Mapping[str, str] = os.environ,
    machine: str | None = None,
) -> Path | None:
    """Return the OpenBLAS library to preload on Linux; None if there is none, and on other systems (macOS has
    Accelerate).

    THUNDER_OPENBLAS names a library in another place. machine: x86_64 or aarch64 (default: this machine's).

    Raises ConfigError if THUNDER_OPENBLAS names no file.
    """
    if system != "Linux":
        return None
    if named := environ.get("THUNDER_OPENBLAS"):
        if not Path(named).is_file():
            raise ConfigError(f"THUNDER_OPENBLAS={named}: there is no such file", fix="unset THUNDER_OPENBLAS")
        return Path(named)
    triplet = f"{machine or platform.machine()}-linux-gnu"
    candidates = (root / name.format(triplet=triplet) for name in LIBRARY_NAMES for root in roots)
    return next((path for path in candidates if path.is_file()), None)
