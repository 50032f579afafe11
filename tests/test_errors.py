"""Errors: each kind has its documented exit code, the fix is on its own line, and faults are listed and counted."""

import pytest

from thunder import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("RunFailed", 1), ("UsageError", 2), ("ConfigError", 2), ("CorpusError", 2), ("ModelError", 2),
        ("GateError", 3), ("ArtifactError", 4), ("LegalityError", 5), ("ClusterError", 6), ("HangError", 7),
        ("ResourceError", 8), ("Interrupted", 130),
    ],
)  # fmt: skip
def test_exit_codes(kind, code):
    error = getattr(errors, kind)("what")
    assert isinstance(error, errors.ThunderError) and error.exit_code == code


def test_the_fix_stands_on_its_own_line():
    assert str(errors.UsageError("no such file", fix="give a path")) == "no such file\n  to fix: give a path"
    assert str(errors.UsageError("no such file")) == "no such file"


def test_twenty_faults_are_listed_and_the_rest_counted():
    error = errors.combined_error(errors.CorpusError, "3 files:", [f"fault {n}" for n in range(23)], fix="correct them")
    assert type(error) is errors.CorpusError and error.fix == "correct them"
    lines = error.message.split("\n")
    assert lines[:2] == ["3 files:", "  fault 0"] and lines[-2:] == ["  fault 19", "  and 3 more"] and len(lines) == 22
    few = errors.combined_error(errors.GateError, "two:", ["a", "b"], shown=2)
    assert few.message == "two:\n  a\n  b"
