"""The very texts that MLX would compile for Metal, run in lock-step on this CPU and compared with the references."""

from __future__ import annotations

import shutil
import subprocess

import mlx.core as mx
import numpy as np
import pytest
from emulator import lint
from emulator.lane import COMPILER, ORDERS, TIMEOUT, TYPES, Lane, signature
from gpu_shapes import assert_close, ctc_cases, ctc_results, ttt_cases, ttt_results, use_lane

from thunder.kernels.ctc import gpu as ctc_gpu
from thunder.kernels.gpu_launch import cuda_body, cuda_header
from thunder.kernels.ttt_chunk import gpu as ttt_gpu

pytestmark = pytest.mark.expensive

KERNELS = [ttt_gpu.FORWARD, ttt_gpu.BACKWARD, ctc_gpu.SWEEP, ctc_gpu.GRADIENT]
kernels = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
needs_compiler = pytest.mark.skipif(not COMPILER, reason="neither clang++ nor g++ is installed")
needs_clang = pytest.mark.skipif(not lint.CLANG, reason="clang is not installed")


def in_orders(cases: list) -> list:
    """Each case in one order of threads now and in the other two among the slow tests."""
    parameters = []
    for index, case in enumerate(cases):
        for turn, order in enumerate(ORDERS):
            marks = () if index % len(ORDERS) == turn else pytest.mark.slow
            parameters.append(pytest.param(case, order, marks=marks, id=f"{index}-{order}"))
    return parameters


@needs_compiler
@pytest.mark.parametrize(("case", "order"), in_orders(ttt_cases()))
def test_the_chunk_update_equals_its_reference(case, order, monkeypatch):
    lane = Lane("plain", order)
    use_lane(monkeypatch, lane)
    assert_close(ttt_results(case, "metal"), ttt_results(case, "reference"), case.dtype)
    assert lane.runs >= 3  # forwards, replay, backwards


@needs_compiler
@pytest.mark.parametrize(("case", "order"), in_orders(ctc_cases()))
def test_ctc_equals_its_reference(case, order, monkeypatch):
    lane = Lane("plain", order)
    use_lane(monkeypatch, lane)
    assert_close(ctc_results(case, "metal"), ctc_results(case, "reference"))
    assert lane.runs == 2


@needs_compiler
def test_a_blank_at_the_alphabets_end_and_the_bits_of_all_orders_agree(monkeypatch):
    results = []
    for order in ORDERS:
        use_lane(monkeypatch, Lane("plain", order))
        results.append(ctc_results((2, 21, 6, 9), "metal", blank=8) + ttt_results(ttt_cases()[6], "metal"))
    assert_close(results[0][:2], ctc_results((2, 21, 6, 9), "reference", blank=8))
    for result in results[1:]:
        assert all(np.array_equal(one, two) for one, two in zip(results[0], result, strict=True))


CHECKED = [ttt_cases()[place] for place in (6, 35, 13, 23)]


@needs_compiler
@pytest.mark.parametrize("build", ["asan", "tsan"])
@pytest.mark.parametrize("index", [0, *(pytest.param(index, marks=pytest.mark.slow) for index in range(1, 4))])
def test_memory_and_race_checks_have_nothing_to_say(build, index, monkeypatch):
    use_lane(monkeypatch, Lane(build, "random"))
    ttt_results(CHECKED[index], "metal")
    ctc_results([(2, 20, 9, 70), (1, 35, 31, 12), (3, 1, 0, 2), (1, 40, 16, 66)][index], "metal")


@kernels
def test_no_word_that_apples_compiler_refuses(kernel):
    assert lint.words(kernel.source_text()) == []


@needs_clang
@kernels
def test_address_spaces_and_types_pass_a_front_end(kernel):
    assert lint.front(kernel, kernel.source_text(), lint.example_inputs(kernel), lint.example(kernel)) == ""


@kernels
def test_the_lanes_signature_is_the_one_that_mlx_writes(kernel, tmp_path):
    launch, inputs = lint.example(kernel), lint.example_inputs(kernel)
    program = mx.fast.metal_kernel(
        name=kernel.name,
        input_names=list(kernel.inputs),
        output_names=list(kernel.outputs),
        source=kernel.source_text(),
    )

    def call(*arrays):
        return program(
            inputs=list(arrays), template=list(launch.constants), grid=launch.grid, threadgroup=launch.threadgroup,
            output_shapes=list(launch.shapes), output_dtypes=list(launch.dtypes),
        )  # fmt: skip

    path = tmp_path / "call.mlxfn"
    mx.export_function(str(path), call, *inputs)
    head, rest = signature(kernel, kernel.source_text(), inputs, launch).split("(\n", 1)
    written = path.read_bytes().decode("utf-8", errors="replace")
    assert head.splitlines()[0] in written and "(\n" + rest in written


@kernels
def test_the_cuda_body_has_no_word_of_metal_left(kernel):
    code = "\n".join(line.split("//")[0] for line in cuda_body(kernel.source_text()).splitlines())
    stripped = code.replace("threadgroup_barrier", "").replace("mem_threadgroup", "")
    stripped = stripped.replace("_in_threadgroup", "").replace("threadgroup_position", "")
    assert "threadgroup" not in stripped and "device " not in stripped and "__shared__" in code


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("nvcc"), reason="nvcc is not installed")
@kernels
def test_nvcc_takes_the_cuda_twin(kernel, tmp_path):
    launch, inputs = lint.example(kernel), lint.example_inputs(kernel)
    parameters = [f"const {TYPES[x.dtype]}* {name}" for name, x in zip(kernel.inputs, inputs, strict=True)]
    parameters += [f"{TYPES[kind]}* {name}" for name, kind in zip(kernel.outputs, launch.dtypes, strict=True)]
    constants = [
        f"constexpr int {name} = {int(value)};" if isinstance(value, int) else f"using {name} = {TYPES[value]};"
        for name, value in launch.constants
    ]
    body = "\n".join([*constants, cuda_body(kernel.source_text())])
    source = f'{cuda_header()}\nextern "C" __global__ void twin({", ".join(parameters)}) {{\n{body}\n}}\n'
    path = tmp_path / "twin.cu"
    path.write_text(source)
    command = ["nvcc", "-arch=sm_90", "-cubin", "-o", str(tmp_path / "twin.cubin"), str(path)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert process.returncode == 0, process.stderr[:2000]
