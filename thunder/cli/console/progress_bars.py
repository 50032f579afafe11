"""Progress bars on stderr for corpora, features and recordings: progress, speed, time left."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from thunder.cli.console.plan_and_progress import talk
from thunder.units import format_bytes


class Speed(ProgressColumn):
    """Rows, or bytes, a second."""

    def __init__(self, in_bytes: bool) -> None:
        super().__init__()
        self.in_bytes = in_bytes

    def render(self, task: Task) -> Text:
        """The recent speed."""
        speed = task.finished_speed or task.speed or 0.0
        return Text(f"{format_bytes(speed)}/s" if self.in_bytes else f"{speed:.0f} rows/s")


def size_of(paths: list[Path]) -> int:
    """Bytes of the files that exist."""
    return sum(path.stat().st_size for path in paths if path.is_file())


@contextmanager
def files_bar(paths: list[Path]) -> Generator[Callable[[int], None]]:
    """A bar over the bytes of files; yields a function to call with the bytes read since the last call."""
    with _bar("reading rows", size_of(paths), in_bytes=True) as advance:
        yield advance


@contextmanager
def rows_bar(rows: int, what: str = "making rows") -> Generator[Callable[[int], None]]:
    """A bar over rows that are made; yields a function to call with the rows made since the last call."""
    with _bar(what, rows, in_bytes=False) as advance:
        yield advance


@contextmanager
def _bar(what: str, total: int, in_bytes: bool) -> Generator[Callable[[int], None]]:
    columns = TextColumn("{task.description}"), BarColumn(), Speed(in_bytes), TextColumn("ETA"), TimeRemainingColumn()
    with Progress(*columns, console=talk, transient=True, disable=not talk.is_terminal) as progress:
        task = progress.add_task(what, total=total or None)
        yield lambda count: progress.advance(task, count)


class RecordingsBar:
    """A bar over recordings, whose number is known when the first is done."""

    def __enter__(self) -> RecordingsBar:
        columns = TextColumn("{task.description}"), BarColumn(), Speed(False), TextColumn("ETA"), TimeRemainingColumn()
        self._progress = Progress(*columns, console=talk, transient=True, disable=not talk.is_terminal)
        self._progress.start()
        self._task = self._progress.add_task("listening", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, done: int, total: int) -> None:
        """Show how many recordings are done."""
        self._progress.update(self._task, completed=done, total=total)
