"""Options of a test session: `--more-examples`, `--quick`, and how many workers `-n auto` starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# the same examples each time, so that a commit passes or does not; no deadlines, since the machine may be busy
settings.register_profile("thunder", deadline=None, derandomize=True)
settings.load_profile("thunder")

QUICK_CASES = 4  # `--quick` runs so many cases of a parametrized test
QUICK_EXAMPLES = 15  # and so many examples of a property


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("thunder", "Thunder Train")
    group.addoption(
        "--more-examples", type=int, default=0, metavar="N", help="draw new hypothesis examples, N times as many"
    )
    group.addoption("--quick", action="store_true", help="under a minute: a choice of tests from every room")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Workers for `-n auto`: one a core, none where a single process is faster or has to be.

    A single file is done before workers have started; a debugger and `-s` need this process; slow tests measure times.
    """
    options = config.option
    files = {arg.split("::")[0] for arg in config.args}
    one_file = len(files) == 1 and Path(*files).is_file()
    interactive = options.trace or options.capture == "no"
    if one_file or interactive or options.collectonly or not options.markexpr.startswith("not slow"):
        return 0
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("quick"):
        chosen = quick_choice(items)
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = [item for item in items if item in chosen]
        set_examples(items, lambda count: min(count, QUICK_EXAMPLES))
    if times := config.getoption("more_examples"):
        set_examples(items, lambda count: count * times, derandomize=False)


def quick_choice(items: list[pytest.Item]) -> set[pytest.Item]:
    """The first cases of each test that is neither slow nor marked as expensive."""
    chosen: dict[str, list[pytest.Item]] = {}
    for item in items:
        if not any(item.get_closest_marker(name) for name in ("slow", "expensive")):
            chosen.setdefault(item.nodeid.split("[")[0], []).append(item)
    return {item for cases in chosen.values() for item in cases[:QUICK_CASES]}


def set_examples(items: list[pytest.Item], change, **options) -> None:
    """Change how many examples each hypothesis test draws; the plugin of hypothesis reads the same attribute."""
    tests = {getattr(item, "obj", None) for item in items}
    for test in tests:
        if getattr(test, "is_hypothesis_test", False):
            before = test._hypothesis_internal_use_settings
            test._hypothesis_internal_use_settings = settings(
                before, max_examples=change(before.max_examples), **options
            )
