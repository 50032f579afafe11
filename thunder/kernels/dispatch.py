"""Which implementation of a kernel runs: chosen by name or by what this machine has, said once, never by failing."""

from __future__ import annotations

import importlib.util
import logging
from functools import cache

import mlx.core as mx

from thunder.errors import UsageError

BACKENDS = ("auto", "metal", "cuda", "cpu", "reference")
ABSENT = {
    "metal": "MLX has no Metal GPU here, or its default device is the CPU",
    "cuda": "MLX has no CUDA GPU here, or its default device is the CPU",
    "cpu": "numba is not installed",
}
log = logging.getLogger("thunder.kernels")


def present() -> tuple[str, ...]:
    """What this machine and this process' default device can run beside the reference, best first."""
    on_gpu = mx.default_device().type == mx.DeviceType.gpu
    found = [name for name, module in (("metal", mx.metal), ("cuda", mx.cuda)) if on_gpu and module.is_available()]
    if importlib.util.find_spec("numba"):
        found.append("cpu")
    return (*found, "reference")


def choose(wanted: str, kernel: str, refused: dict[str, str] | None = None) -> str:
    """The backend that runs `kernel`: the one asked for, or the best present one under "auto".

    refused: backends that cannot take this call, each with the reason. Raises UsageError where what was asked for by
    name is unknown, absent or refused; "auto" passes over it. Each choice is logged once.
    """
    refused = refused or {}
    if wanted not in BACKENDS:
        raise UsageError(f"{kernel}: no backend {wanted!r}", f"one of {', '.join(BACKENDS)}")
    here = present()
    if wanted != "auto":
        reason = refused.get(wanted) or ("" if wanted in here else ABSENT[wanted])
        if reason:
            raise UsageError(f"{kernel}: backend {wanted!r} cannot run: {reason}", "backend 'auto' or 'reference'")
        say(kernel, wanted, "asked for")
        return wanted
    chosen = next(name for name in here if name not in refused)
    passed = [f"{name}: {refused[name]}" for name in here[: here.index(chosen)]]
    say(kernel, chosen, "; ".join(passed) or "the best one here")
    return chosen


@cache
def say(kernel: str, chosen: str, reason: str) -> None:
    """One line in the log for each different choice of this process."""
    log.info("%s runs on %s (%s)", kernel, chosen, reason)


def traced(*arrays: mx.array) -> bool:
    """True inside mx.compile and mx.vmap, where an array has no value yet and only MLX operations can take it."""
    try:
        mx.eval(*arrays)
    except ValueError as error:
        if "function transformations" not in str(error):
            raise
        return True
    return False
