"""Launch a kernel that is written in Metal on a GPU; on CUDA, translate its source first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx

THREADGROUP_BYTES = 32768  # threadgroup memory limit of Apple GPUs
SIMD_WIDTH = 32  # threads of a SIMD-group on Apple GPUs and of a warp on NVIDIA GPUs
ArrayShape = tuple[int, ...]


@dataclass(frozen=True)
class GpuKernel:
    """A kernel's source file and the names of its input and output arrays, in order."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    file: Path

    def source_text(self) -> str:
        """The kernel body that `mx.fast.metal_kernel` takes."""
        return self.file.read_text(encoding="utf-8")


@dataclass(frozen=True)
class KernelLaunch:
    """One launch of a kernel.

    constants: template constants. grid: total threads; each dimension is a multiple of the threadgroup's. threadgroup:
    threads of one group. shapes, dtypes: of the outputs.
    """

    constants: tuple[tuple[str, Any], ...]
    grid: tuple[int, int, int]
    threadgroup: tuple[int, int, int]
    shapes: tuple[ArrayShape, ...]
    dtypes: tuple[Any, ...]


def launch_kernel(kernel: GpuKernel, backend: str, inputs: Sequence[mx.array], launch: KernelLaunch) -> list[mx.array]:
    """Run the kernel and return its outputs; elements that it does not write are undefined."""
    return compiled_kernel(kernel, backend)(
        inputs=list(inputs),
        template=list(launch.constants),
        grid=launch.grid,
        threadgroup=launch.threadgroup,
        output_shapes=list(launch.shapes),
        output_dtypes=list(launch.dtypes),
    )


@cache
def compiled_kernel(kernel: GpuKernel, backend: str):
    """MLX's callable for the kernel, created once; MLX compiles one variant for each set of template constants."""
    names = {"name": kernel.name, "input_names": list(kernel.inputs), "output_names": list(kernel.outputs)}
    if backend == "metal":
        return mx.fast.metal_kernel(source=kernel.source_text(), **names)
    return mx.fast.cuda_kernel(source=cuda_body(kernel.source_text()), header=cuda_header(), **names)


def round_up(count: int, unit: int) -> int:
    """`count` rounded up to a multiple of `unit`."""
    return -(-count // unit) * unit


def cuda_header() -> str:
    """CUDA versions of the functions of Metal's library that the kernels use."""
    return Path(__file__).with_name("metal_compat.cuh").read_text(encoding="utf-8")


def cuda_body(text: str) -> str:
    """The CUDA body of a Metal body: thread indices come first, address-space qualifiers are rewritten."""
    text = re.sub(r"\bconst threadgroup (?=\w+\*)", "const ", text)
    return CUDA_THREAD_INDICES + re.sub(r"\bthreadgroup (?=\w+ \w+\[)", "__shared__ ", text)


CUDA_THREAD_INDICES = """
  const uint thread_index_in_threadgroup = threadIdx.x;
  const uint thread_index_in_simdgroup = threadIdx.x & 31u;
  const uint simdgroup_index_in_threadgroup = threadIdx.x >> 5;
  const uint3 threadgroup_position_in_grid = make_uint3(blockIdx.x, blockIdx.y, blockIdx.z);
  (void)thread_index_in_simdgroup;
  (void)simdgroup_index_in_threadgroup;
"""
