"""`thunder kernels selfcheck`: with kernels that agree, that differ, that do not compile; and where there is none."""

from __future__ import annotations

import json

import mlx.core as mx
import pytest
from emulator.lane import COMPILER, Lane
from gpu_shapes import use

from thunder.cli import main as cli
from thunder.kernels import dispatch, selfcheck
from thunder.kernels.ctc import gpu as ctc_gpu

SMALL = [
    selfcheck.Shape("ctc", (("B", 2), ("T", 9), ("U", 3), ("V", 5)), timed=True),
    selfcheck.update_shape(B=1, T=20, H=1, D=32, Dv=8, chunk_size=16, inclusive=1),
]
needs_compiler = pytest.mark.skipif(not COMPILER, reason="neither clang++ nor g++ is installed")


@pytest.fixture
def metal(monkeypatch):
    lane = Lane()
    use(monkeypatch, lane)
    monkeypatch.setattr(selfcheck, "shapes", lambda: SMALL)
    return lane


@needs_compiler
def test_kernels_that_agree(metal, capsys):
    assert cli.main(["kernels", "selfcheck"]) == 0
    said = capsys.readouterr().out
    assert said.count("ok ") == 2 and "2 of 2 agree" in said and "times the reference's speed" in said
    assert "were not run" not in said


@pytest.mark.expensive
@needs_compiler
def test_a_kernel_that_differs_ends_with_1(metal, capsys):
    metal.rewrite = {"ctc_gradient": ctc_gpu.GRADIENT.text().replace("spoken / sum", "spoken")}
    assert cli.main(["kernels", "selfcheck", "--json"]) == 1
    outcomes = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"shape"' in line]
    assert [outcome["fine"] for outcome in outcomes] == [False, True]


@needs_compiler
def test_a_text_that_does_not_compile_is_told_and_the_rest_goes_on(metal, monkeypatch, capsys):
    def refuse(kernel, backend, inputs, launch):
        if kernel.name == "ctc_sweep":
            raise RuntimeError("[metal::Device] Unable to build metal library")
        return metal.run(kernel, backend, inputs, launch)

    monkeypatch.setattr("thunder.kernels.gpu_launch.run", refuse)
    assert cli.main(["kernels", "selfcheck"]) == 1
    said = capsys.readouterr()
    assert "Unable to build" in said.out and "1 of 2 agree" in said.out and "1 of 2 kernel checks failed" in said.err


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(dispatch, "present", lambda: ("reference",))
    assert cli.main(["kernels", "selfcheck"]) == 0
    assert "the Metal and CUDA texts were not run" in capsys.readouterr().out
    assert cli.main(["kernels", "selfcheck", "--backend", "metal"]) == 2
    assert "MLX has no Metal GPU here" in capsys.readouterr().err
    assert cli.main(["kernels", "selfcheck", "--backend", "abacus"]) == 2


def test_nan_counts_as_a_difference():
    nan = mx.array([float("nan")])
    assert selfcheck.difference([nan], [mx.array([1.0])]) == float("inf")
    assert selfcheck.difference([mx.array([1.0])], [mx.array([1.0])]) == 0


def test_all_shapes_can_be_made_and_more_than_forty_are_there():
    shapes = selfcheck.shapes()
    assert len(shapes) >= 40 and len({str(shape) for shape in shapes}) == len(shapes)
    for shape in shapes[:4] + SMALL:
        arrays = selfcheck.arrays_of(shape)
        assert selfcheck.difference(*[selfcheck.results(shape, "reference", arrays)] * 2) == 0
