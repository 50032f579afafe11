"""`thunder kernels selfcheck`: a line for each check, and exit code 1 where one differs."""

from __future__ import annotations

import json

import pytest

from thunder.cli.commands.training import kernels
from thunder.cli.main import main
from thunder.kernels.selfcheck import KernelCheck

TIMED = KernelCheck("ctc", "cpu", "B 2, T 9", 1.24e-6, True, seconds=0.002, reference_seconds=0.007)
FAILED = KernelCheck("ttt_chunk", "metal", "B 1", 0.5, False)
NOT_RUN = KernelCheck("ctc", "cuda", "B 1", 0.0, False, failure="no compiler\nand more")


@pytest.mark.parametrize(
    ("result", "line"),
    [(TIMED, "ok      ctc       cpu   B 2, T 9: error 1.2e-06, 2.0 ms with gradients, 3.5 times the reference's speed"),
     (FAILED, "FAILURE ttt_chunk metal B 1: error 5.0e-01"), (NOT_RUN, "FAILURE ctc       cuda  B 1: no compiler")],
)  # fmt: skip
def test_a_check_is_a_line(result, line):
    assert kernels.format_check(result) == line


@pytest.mark.parametrize(("results", "code"), [([TIMED], 0), ([TIMED, FAILED], 1)])
def test_the_exit_code_is_1_where_one_differs(results, code, monkeypatch, capsys):
    monkeypatch.setattr(kernels.selfcheck, "run_selfcheck", lambda backend: iter(results))
    assert main(["kernels", "selfcheck", "--json"]) == code
    output = capsys.readouterr()
    values = [json.loads(line) for line in output.out.splitlines()[: len(results)]]
    assert [value["fine"] for value in values] == [result.agrees for result in results]
    assert ("1 of 2 kernel checks failed" in output.out + output.err) == bool(code)
