"""`thunder kernels selfcheck`: with kernels that agree, that differ, that do not compile; and where there is none."""

from __future__ import annotations

import json

import mlx.core as mx
import pytest
from emulator.lane import COMPILER, Lane
from gpu_shapes import use_lane

from thunder.cli import main as cli
from thunder.kernels import dispatch, selfcheck
from thunder.kernels.ctc import gpu as ctc_gpu

SMALL = [
    selfcheck.KernelCase("ctc", (("B", 2), ("T", 9), ("U", 3), ("V", 5)), timed=True),
    selfcheck.ttt_case(B=1, T=20, H=1, D=32, Dv=8, chunk_size=16, inclusive=1),
]
needs_compiler = pytest.mark.skipif(not COMPILER, reason="neither clang++ nor g++ is installed")


@pytest.fixture
def metal(monkeypatch):
    lane = Lane()
    use_lane(monkeypatch, lane)
    monkeypatch.setattr(selfcheck, "kernel_cases", lambda: SMALL)
    return lane


@pytest.mark.expensive
@needs_compiler
def test_kernels_that_agree(metal, capsys):
    assert cli.main(["kernels", "selfcheck"]) == 0
    output = capsys.readouterr().out
    assert output.count("ok ") == 2 and "2 of 2 agree" in output and "times the reference's speed" in output
    assert "were not run" not in output


@pytest.mark.expensive
@needs_compiler
def test_a_kernel_that_differs_ends_with_1(metal, capsys):
    metal.rewrite = {
        "ctc_gradient": ctc_gpu.GRADIENT.source_text().replace("label_probability / sum", "label_probability")
    }
    assert cli.main(["kernels", "selfcheck", "--json"]) == 1
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"shape"' in line]
    assert [result["fine"] for result in results] == [False, True]


@needs_compiler
def test_a_text_that_does_not_compile_is_told_and_the_rest_goes_on(metal, monkeypatch, capsys):
    def reject(kernel, backend, inputs, launch):
        if kernel.name == "ctc_sweep":
            raise RuntimeError("[metal::Device] Unable to build metal library")
        return metal.run(kernel, backend, inputs, launch)

    monkeypatch.setattr("thunder.kernels.gpu_launch.launch_kernel", reject)
    assert cli.main(["kernels", "selfcheck"]) == 1
    captured = capsys.readouterr()
    assert (
        "Unable to build" in captured.out
        and "1 of 2 agree" in captured.out
        and "1 of 2 kernel checks failed" in captured.err
    )


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(dispatch, "available_backends", lambda: ("reference",))
    assert cli.main(["kernels", "selfcheck"]) == 0
    assert "the Metal and CUDA kernels were not run" in capsys.readouterr().out
    assert cli.main(["kernels", "selfcheck", "--backend", "metal"]) == 2
    assert "MLX has no Metal GPU here" in capsys.readouterr().err
    assert cli.main(["kernels", "selfcheck", "--backend", "abacus"]) == 2


def test_nan_counts_as_a_difference():
    nan = mx.array([float("nan")])
    assert selfcheck.relative_difference([nan], [mx.array([1.0])]) == float("inf")
    assert selfcheck.relative_difference([mx.array([1.0])], [mx.array([1.0])]) == 0


def test_all_shapes_can_be_made_and_more_than_forty_are_there():
    cases = selfcheck.kernel_cases()
    assert len(cases) >= 40 and len({str(case) for case in cases}) == len(cases)
    for case in cases[:4] + SMALL:
        arrays = selfcheck.random_inputs(case)
        assert selfcheck.relative_difference(*[selfcheck.outputs_and_gradients(case, "reference", arrays)] * 2) == 0
