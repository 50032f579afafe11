"""Deadlines by made-up clocks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.cluster.ranks.watchdog import MAX_POLL_GAP, Deadlines, Watchdog


def beat(progress, **more):
    return {"event": "beat", "progress": progress, **more}


def phase(name):
    return {"event": "phase", "phase": name}


STEP = {"event": "step", "step": 1}


class Clock:
    """Ranks that beat every second; `run` looks every second as the launcher does."""

    def __init__(self, ranks=1, deadlines=None):
        self.now, self.watch, self.beating = 1000.0, Watchdog(range(ranks), 1000.0, deadlines), set(range(ranks))

    def say(self, event, rank=0):
        self.watch.record_event(rank, event, self.now)

    def run(self, seconds):
        """(seconds until a rank was overdue, the stall), or None."""
        begun = self.now
        while self.now - begun < seconds:
            self.now += 1
            for rank in self.beating:
                self.say(beat("still"), rank)
            if stall := self.watch.overdue(self.now):
                return self.now - begun, stall
        return None


@pytest.mark.parametrize(
    "name, limit",
    [
        ("starting", 120), ("joining", 120), ("loading", 900), ("training", 300), ("validating", 120),
        ("saving", 120), ("testing", 120), ("a phase that is unknown", 120),
    ],
)  # fmt: skip
def test_each_phase_has_its_limit(name, limit):
    clock = Clock()
    clock.say(phase(name))
    clock.say(beat("still"))
    seconds, stall = clock.run(2000)
    assert seconds == limit + 1 and not stall.frozen and stall.rank == 0
    assert f"limit {limit} s" in stall.text and ("in a step" if name == "training" else name) in stall.text


@pytest.mark.parametrize("median, limit", [(1, 30), (3, 30), (4, 40), (60, 600)])
def test_ten_median_steps_or_the_least(median, limit):
    clock = Clock()
    clock.say(phase("training"))
    clock.say(STEP)
    for seconds in [median / 2, median * 2] * 3 + [median] * 5:
        for _ in range(int(seconds * 2)):
            clock.now += 0.5
            clock.say(beat("still"))
            assert clock.watch.overdue(clock.now) is None
        clock.say(STEP)
    assert clock.watch.time_limit(0) == limit
    clock.say(beat("still"))
    assert clock.run(2000)[0] == pytest.approx(limit, abs=1)


def test_one_step_of_an_hour_does_not_move_the_median():
    clock = Clock()
    clock.say(phase("training"))
    for seconds in [1, 1, 1, 3600, 1, 1, 1]:
        clock.now += seconds
        clock.say(STEP)
    assert clock.watch.time_limit(0) == 30


def test_a_phase_between_two_steps_is_no_step():
    clock = Clock()
    clock.say(phase("training"))
    clock.say(STEP)
    clock.now += 2
    clock.say(STEP)
    clock.say(phase("validating"))
    clock.now += 100
    clock.say(phase("training"))
    clock.say(STEP)
    clock.now += 2
    clock.say(STEP)
    assert clock.watch.time_limit(0) == 30, "two steps of 2 s"


def test_a_phase_that_is_long_by_the_steps_may_take_ten_of_them():
    clock = Clock()
    clock.say(phase("training"))
    for _ in range(3):
        clock.say(STEP)
        clock.now += 50
    clock.say(phase("validating"))
    assert clock.watch.time_limit(0) == 500


def test_beats_that_count_are_progress_and_beats_that_stand_still_are_not():
    clock = Clock()
    clock.say(phase("testing"))
    for number in range(500):
        clock.now += 1
        clock.say(beat(number))
        assert clock.watch.overdue(clock.now) is None
    clock.say(beat("still"))
    assert clock.run(500)[0] == 121


def test_a_frozen_rank_is_blamed_and_not_those_that_wait_for_it():
    clock = Clock(ranks=3)
    for rank in range(3):
        clock.say(phase("training"), rank)
        clock.say(STEP, rank)
        clock.say(STEP, rank)
    clock.beating = {0, 2}
    seconds, stall = clock.run(100)
    assert stall.rank == 1 and stall.frozen and 30 <= seconds <= 32


def test_of_two_that_wait_the_longer_one_is_blamed():
    clock = Clock(ranks=2)
    for rank in (1, 0):
        clock.say(beat("still"), rank)
        clock.say(phase("training"), rank)
        clock.say(STEP, rank)
        clock.now += 2
        clock.say(STEP, rank)
        clock.now += 1
    _, stall = clock.run(100)
    assert stall.rank == 1 and not stall.frozen


@pytest.mark.parametrize("name", ["starting", "joining"])
def test_silence_is_no_freeze_where_the_interpreter_is_held(name):
    clock = Clock()
    clock.say(phase(name))
    clock.beating = set()
    seconds, stall = clock.run(500)
    assert seconds == 121 and not stall.frozen


def test_a_rank_that_has_said_nothing_yet_is_given_its_start():
    clock = Clock()
    clock.beating = set()
    assert clock.run(500)[0] == 121


@pytest.mark.parametrize("absent", [MAX_POLL_GAP + 1, 40, 100_000])
def test_a_caller_that_was_away_starts_to_watch_anew(absent):
    clock = Clock(ranks=2)
    for rank in range(2):
        clock.say(phase("training"), rank)
        clock.say(STEP, rank)
        clock.now += 1
        clock.say(STEP, rank)
    assert clock.run(5) is None
    clock.now += absent
    assert clock.watch.overdue(clock.now) is None
    clock.say(STEP)
    clock.say(STEP, 1)
    assert clock.watch.time_limit(0) == 30, "the time away is no step"
    clock.say(beat("still"))
    clock.beating = {0}
    assert clock.run(100)[1].rank == 1


def test_a_rank_that_has_ended_is_not_watched_nor_heard():
    clock = Clock(ranks=2)
    clock.watch.mark_ended(0)
    clock.watch.mark_ended(0)
    clock.say(STEP, 0)
    clock.beating = set()
    assert clock.run(500)[1].rank == 1
    clock.watch.mark_ended(1)
    assert clock.run(2000) is None


def test_all_deadlines_follow_the_one_for_a_step():
    halved, same = Deadlines.from_stall(15), Deadlines.every(3)
    assert (halved.step, halved.first_step, halved.loading, halved.beat) == (15, 150, 450, 15)
    assert halved.times == same.times == Deadlines().times
    assert (same.step, same.loading, same.beat) == (3, 3, 3)


VALUES = st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.dictionaries(st.sampled_from(["event", "phase", "step", "progress"]), VALUES),
                          st.floats(0, 4)), max_size=20))  # fmt: skip
def test_no_event_is_too_strange_and_a_rank_that_speaks_is_not_overdue(events):
    clock = Clock()
    for event, seconds in events:
        clock.now += seconds
        clock.say(event)
        clock.say(beat(object()))
        assert clock.watch.overdue(clock.now) is None
