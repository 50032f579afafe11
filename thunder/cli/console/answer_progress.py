"""Progress of answers on stderr."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn

from thunder.cli.console.plan_and_progress import talk
from thunder.units import format_seconds

SECONDS_BETWEEN_LINES = 10.0  # where there is no terminal


class AnswerProgress:
    """Answers per second and the time left, on stderr: a bar on a terminal, else a line now and then."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._first: int | None = None
        self._begun = self._said = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[rest]}"),
            console=talk,
            transient=True,
            disable=not talk.is_terminal,
        )
        self._task = self._bar.add_task("answers", total=total, rest="")

    def __enter__(self) -> AnswerProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """So many of all answers are there."""
        if self._first is None:
            self._first, self._begun = done, time.monotonic()
        now, self.done = time.monotonic(), done
        speed = (done - self._first) / max(1e-9, now - self._begun)
        left = f"  ETA {format_seconds((total - done) / speed)}" if speed else ""
        self._bar.update(self._task, completed=done, rest=f"{speed:.1f} rows/s{left}")
        if not talk.is_terminal and now - self._said > SECONDS_BETWEEN_LINES:
            self._said = now
            talk.print(f"answered {done}/{total}, {speed:.1f} rows/s{left}", markup=False)
