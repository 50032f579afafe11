"""The names that `thunder` exports: each is there, typed, and loaded when it is used."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest
from conftest import REPOSITORY

import thunder
from thunder.training.training_events import Callback, CallbackList, StepEvent


def test_every_exported_name_is_there():
    assert {name for name in thunder.__all__ if not hasattr(thunder, name)} == set()
    assert set(thunder.__all__) <= set(dir(thunder))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = thunder.trian


def test_type_checkers_see_what_is_loaded_at_run_time():
    tree = ast.parse((REPOSITORY / "thunder" / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == thunder._MODULES
    assert sorted([*typed, "__version__"]) == sorted(thunder.__all__)
    assert (REPOSITORY / "thunder" / "py.typed").is_file()


IMPORT = """
import json, resource, sys
import thunder
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([used.ru_utime + used.ru_stime, sorted(each for each in sys.modules if each.startswith("thunder."))]))
"""


def test_importing_the_package_loads_no_code_of_it():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    seconds, modules = json.loads(done.stdout)
    assert modules == ["thunder.version"] and seconds < 0.2


def test_a_callback_needs_only_the_methods_that_it_overrides():
    class Count(Callback):
        seen = 0

        def on_step(self, event):
            self.seen += event.step

    count = Count()
    events = CallbackList([count, Count()])
    events.on_step(StepEvent(3, 0, 1.0, 2, 1e-3, 0.5))
    events.reach_point("step", step=3)
    assert count.seen == 3 and isinstance(count, Callback)
