"""The very texts that MLX would compile for Metal, run in lock-step on this CPU and compared with the references."""

from __future__ import annotations

import shutil
import subprocess

import mlx.core as mx
import numpy as np
import pytest
from emulator import lint
from emulator.lane import COMPILER, ORDERS, TIMEOUT, TYPES, Lane, signature
from gpu_shapes import alignment_results, alignments, assert_close, update_results, updates, use

from thunder.kernels.ctc import gpu as ctc_gpu
from thunder.kernels.gpu_launch import cuda_body, cuda_header
from thunder.kernels.ttt_chunk import gpu as ttt_gpu

pytestmark = pytest.mark.expensive

KERNELS = [ttt_gpu.AHEAD, ttt_gpu.BACK, ctc_gpu.SWEEP, ctc_gpu.GRADIENT]
kernels = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
needs_compiler = pytest.mark.skipif(not COMPILER, reason="neither clang++ nor g++ is installed")
needs_clang = pytest.mark.skipif(not lint.CLANG, reason="clang is not installed")


def in_orders(cases: list) -> list:
    """Each case in one order of threads now and in the other two among the slow tests."""
    chosen = []
    for place, case in enumerate(cases):
        for turn, order in enumerate(ORDERS):
            marks = () if place % len(ORDERS) == turn else pytest.mark.slow
            chosen.append(pytest.param(case, order, marks=marks, id=f"{place}-{order}"))
    return chosen


@needs_compiler
@pytest.mark.parametrize(("case", "order"), in_orders(updates()))
def test_the_chunk_update_equals_its_reference(case, order, monkeypatch):
    lane = Lane("plain", order)
    use(monkeypatch, lane)
    assert_close(update_results(case, "metal"), update_results(case, "reference"), case.kind)
    assert lane.runs >= 3  # forwards, replay, backwards


@needs_compiler
@pytest.mark.parametrize(("case", "order"), in_orders(alignments()))
def test_ctc_equals_its_reference(case, order, monkeypatch):
    lane = Lane("plain", order)
    use(monkeypatch, lane)
    assert_close(alignment_results(case, "metal"), alignment_results(case, "reference"))
    assert lane.runs == 2


@needs_compiler
def test_a_blank_at_the_alphabets_end_and_the_bits_of_all_orders_agree(monkeypatch):
    seen = []
    for order in ORDERS:
        use(monkeypatch, Lane("plain", order))
        seen.append(alignment_results((2, 21, 6, 9), "metal", blank=8) + update_results(updates()[6], "metal"))
    assert_close(seen[0][:2], alignment_results((2, 21, 6, 9), "reference", blank=8))
    for other in seen[1:]:
        assert all(np.array_equal(one, two) for one, two in zip(seen[0], other, strict=True))


CHECKED = [updates()[place] for place in (6, 35, 13, 23)]


@needs_compiler
@pytest.mark.parametrize("build", ["asan", "tsan"])
@pytest.mark.parametrize("place", [0, *(pytest.param(place, marks=pytest.mark.slow) for place in range(1, 4))])
def test_memory_and_race_checks_have_nothing_to_say(build, place, monkeypatch):
    use(monkeypatch, Lane(build, "random"))
    update_results(CHECKED[place], "metal")
    alignment_results([(2, 20, 9, 70), (1, 35, 31, 12), (3, 1, 0, 2), (1, 40, 16, 66)][place], "metal")


@kernels
def test_no_word_that_apples_compiler_refuses(kernel):
    assert lint.words(kernel.text()) == []


@needs_clang
@kernels
def test_address_spaces_and_types_pass_a_front_end(kernel):
    assert lint.front(kernel, kernel.text(), lint.example_inputs(kernel), lint.example(kernel)) == ""


@kernels
def test_the_lanes_signature_is_the_one_that_mlx_writes(kernel, tmp_path):
    launch, inputs = lint.example(kernel), lint.example_inputs(kernel)
    program = mx.fast.metal_kernel(
        name=kernel.name, input_names=list(kernel.inputs), output_names=list(kernel.outputs), source=kernel.text()
    )

    def call(*arrays):
        return program(
            inputs=list(arrays), template=list(launch.constants), grid=launch.grid, threadgroup=launch.threadgroup,
            output_shapes=list(launch.shapes), output_dtypes=list(launch.dtypes),
        )  # fmt: skip

    path = tmp_path / "call.mlxfn"
    mx.export_function(str(path), call, *inputs)
    head, rest = signature(kernel, kernel.text(), inputs, launch).split("(\n", 1)
    written = path.read_bytes().decode("utf-8", errors="replace")
    assert head.splitlines()[0] in written and "(\n" + rest in written


@kernels
def test_the_cuda_body_has_no_word_of_metal_left(kernel):
    code = "\n".join(line.split("//")[0] for line in cuda_body(kernel.text()).splitlines())
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
    known = [
        f"constexpr int {name} = {int(value)};" if isinstance(value, int) else f"using {name} = {TYPES[value]};"
        for name, value in launch.constants
    ]
    body = "\n".join([*known, cuda_body(kernel.text())])
    source = f'{cuda_header()}\nextern "C" __global__ void twin({", ".join(parameters)}) {{\n{body}\n}}\n'
    path = tmp_path / "twin.cu"
    path.write_text(source)
    command = ["nvcc", "-arch=sm_90", "-cubin", "-o", str(tmp_path / "twin.cubin"), str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert ended.returncode == 0, ended.stderr[:2000]
