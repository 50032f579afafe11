"""Follow the events of a run's ranks: into train.log, onto a display, and to callbacks."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from thunder.launcher.job_console import RunDisplay
from thunder.runs.records.run_record import LOG
from thunder.training.training_events import NO_CALLBACKS, CallbackList, from_record_event, send_event
from thunder.units import format_bytes, format_seconds

TEST_LINE_EVERY = 10.0  # seconds; of validations too


class RunFollower:
    """Follows the events of all ranks; metrics and callbacks are those of rank 0."""

    def __init__(self, total: int, folder: Path, display: RunDisplay, callbacks: CallbackList = NO_CALLBACKS) -> None:
        self.total, self.folder, self.display, self.callbacks = total, folder, display, callbacks
        self.values: dict[str, Any] = {}
        self.phases: dict[int, str] = {}
        self.tested: dict[int, tuple[int, int]] = {}
        self._last_test_line = 0.0

    def __enter__(self) -> RunFollower:
        self._log = (self.folder / LOG).open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._log.close()

    def on_event(self, rank: int, event: dict[str, Any]) -> None:
        """Take one event of one rank."""
        kind = event.get("event")
        if kind == "phase":
            self._on_phase(rank, event)
        elif kind == "metrics" and rank == 0:
            self._on_metrics(event)
        elif kind == "log":
            self.say(str(event.get("text")))
        elif kind == "test":
            self._on_test(rank, event)
        elif kind == "validate" and rank == 0:
            self._on_validate(event)
        if rank == 0 and self.callbacks.callbacks and (typed := from_record_event(event, self.folder)):
            send_event(typed, self.callbacks)

    def _on_phase(self, rank: int, event: dict[str, Any]) -> None:
        before, phase = self.phases.get(rank), str(event.get("phase"))
        self.phases[rank] = phase
        if rank == 0:
            self.display.show_progress(phase=phase)
            if phase == "validating":
                self._last_test_line = time.monotonic()  # a short validation needs no line
            if phase != before and phase in ("joining", "loading", "testing"):
                self.say(f"{phase} ...")

    def _on_metrics(self, event: dict[str, Any]) -> None:
        numbers = plausible_numbers(event)
        self.values |= numbers
        step = int(numbers.get("step", 0))
        self.display.show_progress(done=step, detail=metrics_line(self.values))
        shown = f"valid loss {numbers['valid_loss']:.4f}" if "valid_loss" in numbers else metrics_line(numbers)
        self.say(f"step {step}/{self.total}  {shown}", only_log=self.display.is_live)

    def _on_test(self, rank: int, event: dict[str, Any]) -> None:
        counts = plausible_numbers(event)
        self.tested[rank] = (int(counts.get("done", 0)), int(counts.get("total", 0)))
        done, total = (sum(pair[part] for pair in self.tested.values()) for part in (0, 1))
        self.display.show_progress(done=done, total=total, detail="answers")
        if time.monotonic() - self._last_test_line > TEST_LINE_EVERY or done == total:
            self._last_test_line = time.monotonic()
            self.say(f"tested {done}/{total} answers", only_log=self.display.is_live)

    def _on_validate(self, event: dict[str, Any]) -> None:
        """Show how far a validation is: a long one before the first step would look like a hang."""
        counts = plausible_numbers(event)
        done, total = (int(counts.get(name, 0)) for name in ("done", "total"))
        text = f"validating {done}/{total} batches" if total else f"validating, {done} batches done"
        self.display.show_progress(detail=text)
        if time.monotonic() - self._last_test_line > TEST_LINE_EVERY:
            self._last_test_line = time.monotonic()
            self.say(text, only_log=self.display.is_live)

    def say(self, text: str, only_log: bool = False) -> None:
        """A line in train.log, and on the display too unless the live line says it already."""
        # a disk that is full stops the ranks, whose error is then to be shown
        with contextlib.suppress(OSError):
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        if not only_log:
            self.display.show_line(text)


def plausible_numbers(event: dict[str, Any]) -> dict[str, Any]:
    """The values of an event that can be shown as numbers: a host's agent may be another version, a loss may be NaN."""
    numbers = {name: value for name, value in event.items() if isinstance(value, int | float)}
    return {
        name: value
        for name, value in numbers.items()
        if abs(value) < 1e15 or (name.endswith("loss") and isinstance(value, float))
    }


def metrics_line(values: dict[str, Any]) -> str:
    """Loss, validation, speed, time left, memory, as far as they are known."""
    parts = []
    if "loss" in values:
        parts.append(f"loss {values['loss']:.4f}")
    if "valid_loss" in values:
        parts.append(f"valid {values['valid_loss']:.4f} (best {values.get('best_loss', math.nan):.4f})")
    if "tokens_per_second" in values:
        parts.append(f"{values['tokens_per_second']:.0f} tok/s")
    if "seconds_left" in values:
        parts.append(f"ETA {format_seconds(values['seconds_left'])}")
    if "peak_bytes" in values:
        parts.append(format_bytes(values["peak_bytes"]))
    return "  ".join(parts)
