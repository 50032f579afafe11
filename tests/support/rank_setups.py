"""The setup of one rank alone for tests of its jobs, with a record that keeps what a job reports."""

from __future__ import annotations

from thunder.launcher.rank_jobs.rank_setup import RankSetup
from thunder.parallel.world import World
from thunder.training.loop_settings import RuntimeOverrides
from thunder.training.training_events import CallbackList


class Record:
    """Keeps what a job reports."""

    def __init__(self) -> None:
        self.events, self.results = [], None

    def event(self, kind, **fields):
        self.events.append((kind, fields))

    def phase(self, name, **fields):
        self.event("phase", name=name, **fields)

    def finish(self, results):
        self.results = results


def lone_rank_setup(tmp_path):
    """Makes the setup of one rank alone, which is asked to stop or not."""

    def make(stop=False):
        folder = tmp_path / "20260101-run"
        return RankSetup(folder, Record(), World(), lambda: stop, RuntimeOverrides(), CallbackList([]))

    return make
