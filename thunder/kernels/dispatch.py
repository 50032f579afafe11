"""Which implementation of a kernel runs: chosen by name or by what this machine has, said once, never by failing."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
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


def choose(wanted: str, kernel: str, refused: dict[str, str] | None = None, values: Sequence[mx.array] = ()) -> str:
    """The backend that runs `kernel`: the one asked for, or the best present one under "auto".

    refused: backends that cannot take this call, each with the reason. values: what the CPU's program would have to
    read; they are evaluated only if its turn comes. Raises UsageError where what was asked for by name is unknown,
    absent or refused; "auto" passes over it. Each choice is logged once.
    """
    if wanted not in BACKENDS:
        raise UsageError(f"{kernel}: no backend {wanted!r}", f"one of {', '.join(BACKENDS)}")
    here, passed = present(), []
    for name in here if wanted == "auto" else (wanted,):
        reason = (refused or {}).get(name, "") or ("" if name in here else ABSENT[name])
        if not reason and name == "cpu" and values and traced(*values):
            reason = "inside mx.compile only MLX operations run"
        if not reason:
            say(kernel, name, "; ".join(passed) or ("the best one here" if wanted == "auto" else "asked for"))
            return name
        passed.append(f"{name}: {reason}")
    raise UsageError(f"{kernel}: no backend can run: {'; '.join(passed)}", "backend 'auto' or 'reference'")


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
