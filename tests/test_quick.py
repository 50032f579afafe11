"""`--quick` covers every room: each package folder of thunder has tests in the folder of `tests` that mirrors it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, TESTS
from session_options import quick_choice

THUNDER = REPOSITORY / "thunder"
ROOMS = sorted({path.parent.relative_to(THUNDER) for path in THUNDER.rglob("*.py") if path.name != "__init__.py"})


def uncovered(files: set[Path]) -> list[str]:
    """The rooms below thunder's own folder that none of the test files lies in."""
    folders = {path.relative_to(TESTS).parent for path in files}
    return [str(room) for room in ROOMS if room != Path(".") and room not in folders]


@pytest.fixture(scope="module")
def quick_files(request) -> set[Path]:
    """Test files with a test that `--quick` chooses: of this session if it collected all, else of another."""
    if {(request.config.rootpath / argument).resolve() for argument in request.config.args} == {TESTS.resolve()}:
        return {item.path for item in quick_choice(request.session.items)}
    command = [sys.executable, "-m", "pytest", "--quick", "--collect-only", "-q", "-p", "no:cacheprovider", str(TESTS)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return {REPOSITORY / line.split("::")[0] for line in done.stdout.splitlines() if "::" in line}


@pytest.mark.timeout(600)
def test_every_room_has_a_quick_test(quick_files):
    assert uncovered(quick_files) == []


def test_a_room_without_a_quick_test_is_named():
    files = {TESTS / room / "test_x.py" for room in ROOMS if room != Path("lora/engine")}
    assert uncovered(files) == ["lora/engine"]
