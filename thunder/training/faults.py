"""A callback that injects faults, to show that a run survives them: kills, freezes, Metal's errors, slow ranks.

THUNDER_FAULTS holds `kind@point[:step=N][:rank=R][:above=N][:always]`, separated by commas. Each fires once a run: a
marker in the run's folder outlives the restart. `always` fires every time; `above` (for the GPU's errors) every time
that more than N rows go through the model at once. `slow@computing` makes each micro-batch take twice as long as it
does, or with `ms=N` N milliseconds a row longer; it fires every time. A rank process installs the callback where the
variable is set (`from_environment`); the loop and the step know nothing of it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from thunder.config import suggest_name
from thunder.errors import UsageError
from thunder.parallel import collectives
from thunder.parallel.world import World
from thunder.runs.records.run_record import RunRecord
from thunder.training.training_events import POINTS, Callback, PointEvent, StartEvent

VARIABLE = "THUNDER_FAULTS"
METAL = {
    kind: f"[METAL] Command buffer execution failed: {reason}"
    for kind, reason in {
        "gpu-timeout": "Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)",
        "interactivity": "Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)",
        "oom": "Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
    }.items()
}
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
KINDS = (*SIGNALS, "freeze", *METAL, "extra-collective", "nan", "garbage-event", "long-log-line", "slow")
NUMBERS = ("step", "rank", "above", "ms")
INTO_COLLECTIVE = 0.003  # seconds after which the fault at `collective` fires: the ring is busy or waits by then
GARBAGE = 10 * 2**20  # bytes
GARBAGE_SECONDS = 20


@dataclass(frozen=True)
class InjectedFault:
    """One fault: what, where, and when. step, rank: None for any."""

    text: str
    kind: str
    point: str
    step: int | None = None
    rank: int | None = None
    above: int | None = None
    always: bool = False
    ms: int | None = None


def parse_faults(spec: str) -> tuple[InjectedFault, ...]:
    """The faults that a value of THUNDER_FAULTS asks for.

    Raises UsageError that names the part which cannot be read, with the nearest known name.
    """
    return tuple(_parse_one(text.strip()) for text in spec.split(",") if text.strip())


def _parse_one(text: str) -> InjectedFault:
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
    return InjectedFault(text, kind, point, **values)


def _clash(kind: str, point: str, values: dict[str, Any]) -> str:
    """Why kind, point and options exclude each other; empty where they do not."""
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


class FaultInjector(Callback):
    """Fires the faults of one rank at the points where they are due.

    world: the ring, for an extra collective; a rank sets it once it has joined.
    """

    def __init__(
        self, faults: tuple[InjectedFault, ...], record: RunRecord, rank: int, world: World | None = None
    ) -> None:
        self.faults, self.record, self.rank, self.world = faults, record, rank, world
        self.micro_batch_size = 0

    def on_start(self, event: StartEvent) -> None:
        """Store how many rows go through the model at once; `above` compares with it."""
        self.micro_batch_size = event.micro_batch_size

    def on_point(self, event: PointEvent) -> None:
        """Fire each fault that is due here."""
        for fault in self.faults:
            if fault.point == event.name and fault.rank in (None, self.rank) and fault.step in (None, event.step):
                if fault.kind == "slow":
                    time.sleep(event.seconds if fault.ms is None else event.rows * fault.ms / 1000)
                elif self._is_due(fault):
                    self._fire(fault, event.loss)

    def _is_due(self, fault: InjectedFault) -> bool:
        if fault.above is not None:
            return self.micro_batch_size > fault.above
        return fault.always or self._mark(fault)

    def _mark(self, fault: InjectedFault) -> bool:
        """Mark a fault as fired on disk, before it fires; False where it is marked already."""
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

    def _fire(self, fault: InjectedFault, loss: mx.array | None) -> None:
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
        """Send all of it while the launcher reads: garbage that stays in the pipe would block the heartbeats."""
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


def from_environment(environ: Mapping[str, str], record: RunRecord, rank: int) -> list[FaultInjector]:
    """The injector that THUNDER_FAULTS asks for in a rank process; none where it is not set.

    Raises UsageError as `parse_faults`.
    """
    faults = parse_faults(environ.get(VARIABLE, ""))
    return [FaultInjector(faults, record, rank)] if faults else []
