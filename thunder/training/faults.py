"""Faults on demand, to show that a run survives them: kills, freezes, Metal's errors, slow ranks, sums out of step.

THUNDER_FAULTS holds `kind@point[:step=N][:rank=R][:above=N][:always]`, separated by commas. Each fires once a run: a
marker in the run's folder outlives the restart. `always` fires every time; `above` (for the GPU's errors) every time
that more than N rows go through the model at once. `slow@computing` makes each micro-batch take twice as long as it
does, or with `ms=N` N milliseconds a row longer; it fires every time. Without the variable `at` does nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from thunder.config import suggest_name
from thunder.errors import UsageError
from thunder.parallel import collectives
from thunder.parallel.world import World
from thunder.runs.records.run_record import RunRecord

VARIABLE = "THUNDER_FAULTS"
METAL = {
    kind: f"[METAL] Command buffer execution failed: {said}"
    for kind, said in {
        "gpu-timeout": "Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)",
        "interactivity": "Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)",
        "oom": "Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
    }.items()
}
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
KINDS = (*SIGNALS, "freeze", *METAL, "extra-collective", "nan", "garbage-event", "long-log-line", "slow")
POINTS = (
    "joining", "loading", "filling", "step", "computing", "gradient", "collective", "applied", "validating", "saving",
    "saved",
    "testing",
)  # fmt: skip
NUMBERS = ("step", "rank", "above", "ms")
INTO_COLLECTIVE = 0.003  # seconds after which the fault at `collective` fires: the ring is busy or waits by then
GARBAGE = 10 * 2**20  # bytes
GARBAGE_SECONDS = 20


@dataclass(frozen=True)
class Fault:
    """One fault: what, where, and when. step, rank: None for any."""

    text: str
    kind: str
    point: str
    step: int | None = None
    rank: int | None = None
    above: int | None = None
    always: bool = False
    ms: int | None = None


def parse(spec: str) -> tuple[Fault, ...]:
    """The faults that a value of THUNDER_FAULTS asks for.

    Raises UsageError that names the part which cannot be read, with the nearest known name.
    """
    return tuple(_parse_one(text.strip()) for text in spec.split(",") if text.strip())


def _parse_one(text: str) -> Fault:
    head, *options = text.split(":")
    kind, _, point = head.partition("@")
    values: dict[str, Any] = {}
    if kind not in KINDS:
        raise _refused(text, f"no kind '{kind}'.{suggest_name(kind, KINDS)}")
    if point not in POINTS:
        raise _refused(text, f"no point '{point}'.{suggest_name(point, POINTS)}")
    for option in options:
        name, _, number = option.partition("=")
        if option == "always":
            values["always"] = True
        elif name in NUMBERS and number.isdecimal():
            values[name] = int(number)
        else:
            raise _refused(text, f"no option '{option}'.{suggest_name(name, (*NUMBERS, 'always'))}")
    if reason := _clash(kind, point, values):
        raise _refused(text, reason)
    return Fault(text, kind, point, **values)


def _clash(kind: str, point: str, values: dict[str, Any]) -> str:
    """Why kind, point and options do not go together; nothing where they do."""
    if "above" in values and kind not in METAL:
        return f"'above' is for {', '.join(METAL)}"
    if "ms" in values and kind != "slow":
        return "'ms' is for slow"
    if kind == "slow" and point != "computing":
        return "'slow' is for the point 'computing'"
    if kind == "nan" and point != "gradient":
        return "'nan' is for the point 'gradient'"
    if point == "collective" and kind not in SIGNALS:
        return f"at 'collective' only {' and '.join(SIGNALS)} can be"
    if kind == "extra-collective" and point in ("joining", "loading"):
        return "there is no collective before the loop begins"
    return ""


def _refused(text: str, reason: str) -> UsageError:
    return UsageError(f"{VARIABLE}: '{text}': {reason}", fix="kind@point[:step=N][:rank=R][:above=N][:ms=N][:always]")


class Armed:
    """The faults of one rank, and what they act on."""

    def __init__(self, faults: tuple[Fault, ...], record: RunRecord, rank: int) -> None:
        self.faults, self.record, self.rank = faults, record, rank
        self.world: World | None = None
        self.micro_batch_size = 0

    def at(self, point: str, step: int | None, loss: mx.array | None, rows: int, seconds: float) -> None:
        """Fire each fault that is due here."""
        for fault in self.faults:
            if fault.point == point and fault.rank in (None, self.rank) and fault.step in (None, step):
                if fault.kind == "slow":
                    time.sleep(seconds if fault.ms is None else rows * fault.ms / 1000)
                elif self._is_due(fault):
                    self._fire(fault, loss)

    def _is_due(self, fault: Fault) -> bool:
        if fault.above is not None:
            return self.micro_batch_size > fault.above
        return fault.always or self._mark(fault)

    def _mark(self, fault: Fault) -> bool:
        """Note on disk, before it fires, that a fault has fired; False where it had already."""
        rank = "" if fault.rank is not None else f":rank={self.rank}"
        marker = self.record.folder / "faults" / f"{fault.text}{rank}.fired"
        marker.parent.mkdir(exist_ok=True)
        try:
            number = os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        _flush_and_close(number)
        _flush_and_close(os.open(marker.parent, os.O_RDONLY))
        return True

    def _fire(self, fault: Fault, loss: mx.array | None) -> None:
        print(f"fault: {fault.text}", file=sys.stderr, flush=True)
        if fault.kind in SIGNALS:
            delay = INTO_COLLECTIVE if fault.point == "collective" else 0
            self._signal(SIGNALS[fault.kind], delay)
        elif fault.kind in METAL:
            raise RuntimeError(METAL[fault.kind])
        elif fault.kind == "freeze":
            threading.Event().wait()
        elif fault.kind == "extra-collective":
            assert self.world is not None
            collectives.sum_array(self.world, mx.ones(7))
        elif fault.kind == "nan":
            assert loss is not None
            loss[...] = float("nan")
        elif fault.kind == "garbage-event":
            self._send_garbage()
        else:
            print("long line " * (GARBAGE // 10), file=sys.stderr, flush=True)

    def _send_garbage(self) -> None:
        """All of it, for as long as the launcher reads: it must not stand before the heartbeats for ever."""
        whole = self.record.send(b"\xff{garbage" * (GARBAGE // 9) + b"\n")
        until = time.monotonic() + GARBAGE_SECONDS
        while not whole and time.monotonic() < until:
            time.sleep(0.001)
            whole = self.record.send()

    def _signal(self, number: int, delay: float) -> None:
        if delay:
            timer = threading.Timer(delay, os.kill, (os.getpid(), number))
            timer.daemon = True
            timer.start()
        else:
            os.kill(os.getpid(), number)


def _flush_and_close(number: int) -> None:
    try:
        os.fsync(number)
    finally:
        os.close(number)


_armed: Armed | None = None


def arm(spec: str, record: RunRecord, rank: int) -> None:
    """Make `at` fire what `spec` asks for, in this process. Raises UsageError as `parse`."""
    global _armed
    _armed = Armed(parse(spec), record, rank) if spec else None


def situate(world: World, micro_batch_size: int) -> None:
    """Tell the armed faults what they act on: the ring, and how many rows go through the model at once."""
    if _armed is not None:
        _armed.world, _armed.micro_batch_size = world, micro_batch_size


def at(
    point: str, *, step: int | None = None, loss: mx.array | None = None, rows: int = 0, seconds: float = 0.0
) -> None:
    """A place where a fault can be asked for. loss: [] what `nan` spoils. rows, seconds: of what `slow` slows."""
    if _armed is not None:
        _armed.at(point, step, loss, rows, seconds)
