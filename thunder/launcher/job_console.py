"""What a job shows to people, as protocols that the command line implements; the default shows nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from thunder.launcher.plan import Plan


class RunDisplay(Protocol):
    """Follows one run on a screen."""

    is_live: bool
    """Whether there is a live line, so that metrics need no line of their own on the screen."""

    def show_line(self, text: str) -> None:
        """A line that stays."""

    def show_progress(
        self, *, phase: str | None = None, done: int | None = None, total: int | None = None, detail: str | None = None
    ) -> None:
        """Change the live line; None leaves a part as it is."""


class JobConsole(Protocol):
    """Shows a job: single lines, its plan, and a display while its run goes on."""

    def say(self, text: str) -> None:
        """A line about the job, before its run begins."""

    def show_plan(self, plan: Plan) -> None:
        """The plan of the run that is about to start."""

    def display(self, total_steps: int) -> AbstractContextManager[RunDisplay]:
        """A display for a run of so many steps."""
        ...


class SilentDisplay:
    """A display that shows nothing."""

    is_live = True

    def show_line(self, text: str) -> None:
        """Nothing."""

    def show_progress(
        self, *, phase: str | None = None, done: int | None = None, total: int | None = None, detail: str | None = None
    ) -> None:
        """Nothing."""


class SilentConsole:
    """A console that shows nothing; the run's folder holds everything that it would have said."""

    def say(self, text: str) -> None:
        """Nothing."""

    def show_plan(self, plan: Plan) -> None:
        """Nothing."""

    def display(self, total_steps: int) -> AbstractContextManager[RunDisplay]:
        """A display that shows nothing."""
        return nullcontext(SilentDisplay())
