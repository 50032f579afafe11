"""The CUDA body and header of a Metal text, and the signature that MLX writes for a launch."""

from __future__ import annotations

import shutil
import subprocess

import mlx.core as mx
import pytest
from emulator import lint
from emulator.lane import TIMEOUT, TYPES, signature
from gpu_shapes import kernels

from thunder.kernels.gpu_launch import cuda_body, cuda_header

pytestmark = pytest.mark.expensive


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
