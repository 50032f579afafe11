"""Options of a test session: how many workers, the same examples each time or new ones, and what `--quick` chooses."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import session_options
from conftest import TESTS
from hypothesis import given, settings
from hypothesis import strategies as st

ALL = dict(trace=False, capture="fd", collectonly=False, markexpr="not slow")


def workers(*arguments, **options):
    config = SimpleNamespace(args=list(map(str, arguments)), option=SimpleNamespace(**ALL | options))
    return session_options.pytest_xdist_auto_num_workers(config)


def test_all_cores_for_folders_and_one_process_for_a_file():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert workers(TESTS) == workers(TESTS / "text", TESTS / "lora") == cores >= 1
    assert workers(TESTS, markexpr="not slow and not expensive") == cores
    file = TESTS / "test_architecture.py"
    assert workers(file) == workers(f"{file}::test_a", f"{file}::test_b[1]") == 0


@pytest.mark.parametrize("options", [
    {"markexpr": "slow"}, {"markexpr": "slow or not slow"}, {"markexpr": ""}, {"capture": "no"}, {"trace": True},
    {"collectonly": True},
])  # fmt: skip
def test_one_process_where_times_are_measured_or_somebody_watches(options):
    assert workers(TESTS, **options) == 0


def test_examples_are_the_same_each_time_and_have_no_deadline():
    profile = settings.get_profile("thunder")
    assert profile.deadline is None and profile.derandomize
    assert settings.default.deadline is None


@given(st.integers())
def by_default(value):
    pass


@settings(max_examples=40)
@given(st.integers())
def of_its_own(value):
    pass


def test_more_examples_are_new_ones():
    items = [SimpleNamespace(obj=by_default), SimpleNamespace(obj=of_its_own), SimpleNamespace(obj=workers)] * 2
    session_options.set_examples(items, lambda count: count * 3, derandomize=False)
    changed = [test._hypothesis_internal_use_settings for test in (by_default, of_its_own)]
    assert [each.max_examples for each in changed] == [3 * settings.get_profile("thunder").max_examples, 120]
    assert not any(each.derandomize for each in changed) and all(each.deadline is None for each in changed)


class Item(SimpleNamespace):
    __hash__ = object.__hash__

    def get_closest_marker(self, name):
        return name if name in self.markers else None


def test_quick_takes_some_cases_of_tests_that_are_cheap():
    cases = [Item(nodeid=f"tests/a.py::test_many[{number}]", markers=()) for number in range(9)]
    one = Item(nodeid="tests/a.py::test_one", markers=("metal",))
    left_out = [Item(nodeid=f"tests/b.py::test_{name}", markers=(name,)) for name in ("slow", "expensive")]
    assert session_options.quick_choice([*left_out, *cases, one]) == {*cases[: session_options.QUICK_CASES], one}
