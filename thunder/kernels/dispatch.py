"""Choose the backend of a kernel: by name, or the best backend that is available. Each choice is logged once."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from functools import cache

import mlx.core as mx

from thunder.errors import UsageError

BACKENDS = ("auto", "metal", "cuda", "cpu", "reference")
ABSENCE_REASONS = {
    "metal": "MLX has no Metal GPU here, or its default device is the CPU",
    "cuda": "MLX has no CUDA GPU here, or its default device is the CPU",
    "cpu": "numba is not installed",
}
log = logging.getLogger("thunder.kernels")


def available_backends() -> tuple[str, ...]:
    """Backends that this machine and this process' default device can run, best first; the last is "reference"."""
    on_gpu = mx.default_device().type == mx.DeviceType.gpu
    found = [name for name, module in (("metal", mx.metal), ("cuda", mx.cuda)) if on_gpu and module.is_available()]
    if importlib.util.find_spec("numba"):
        found.append("cpu")
    return (*found, "reference")


def choose_backend(
    requested: str, kernel: str, unsupported: dict[str, str] | None = None, values: Sequence[mx.array] = ()
) -> str:
    """Name of the backend that runs `kernel`: the requested one, or the best available one for "auto".

    unsupported: backends that cannot run this call, each with the reason. values: arrays that the CPU program reads;
    they are evaluated only when the CPU backend is considered. Raises UsageError when the requested backend is
    unknown, unavailable or unsupported; "auto" skips such backends. Each choice is logged once.
    """
    if requested not in BACKENDS:
        raise UsageError(f"{kernel}: no backend {requested!r}", f"one of {', '.join(BACKENDS)}")
    available, skipped = available_backends(), []
    for name in available if requested == "auto" else (requested,):
        reason = (unsupported or {}).get(name, "") or ("" if name in available else ABSENCE_REASONS[name])
        if not reason and name == "cpu" and values and is_traced(*values):
            reason = "inside mx.compile only MLX operations run"
        if not reason:
            default = "best available backend" if requested == "auto" else "requested"
            log_choice(kernel, name, "; ".join(skipped) or default)
            return name
        skipped.append(f"{name}: {reason}")
    raise UsageError(f"{kernel}: no backend can run: {'; '.join(skipped)}", "backend 'auto' or 'reference'")


@cache
def log_choice(kernel: str, chosen: str, reason: str) -> None:
    """Log each different choice once in this process."""
    log.info("%s runs on %s (%s)", kernel, chosen, reason)


def is_traced(*arrays: mx.array) -> bool:
    """True inside mx.compile and mx.vmap, where an array has no value and only MLX operations can use it."""
    try:
        mx.eval(*arrays)
    except ValueError as error:
        if "function transformations" not in str(error):
            raise
        return True
    return False
