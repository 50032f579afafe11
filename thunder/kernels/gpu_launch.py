"""Starting a kernel's text on a GPU: as it stands on Metal, with a prelude and two words rewritten on CUDA."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx

THREADGROUP_BYTES = 32768  # what Apple GPUs give one threadgroup
SIMD = 32  # threads that move together, on Apple and on NVIDIA GPUs
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Kernel:
    """A text and the names of its arrays, in order."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    file: Path

    def text(self) -> str:
        """The body as `mx.fast.metal_kernel` takes it."""
        return self.file.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Launch:
    """One start of a kernel: constants of its text, threads in all, threads of a group (whole groups only)."""

    constants: tuple[tuple[str, Any], ...]
    grid: tuple[int, int, int]
    threadgroup: tuple[int, int, int]
    shapes: tuple[Shape, ...]
    dtypes: tuple[Any, ...]


def run(kernel: Kernel, backend: str, inputs: Sequence[mx.array], launch: Launch) -> list[mx.array]:
    """The kernel's outputs; what it does not write is undefined."""
    return program(kernel, backend)(
        inputs=list(inputs),
        template=list(launch.constants),
        grid=launch.grid,
        threadgroup=launch.threadgroup,
        output_shapes=list(launch.shapes),
        output_dtypes=list(launch.dtypes),
    )


@cache
def program(kernel: Kernel, backend: str):
    """MLX's callable for the kernel, made once; MLX compiles one form for each set of constants."""
    names = {"name": kernel.name, "input_names": list(kernel.inputs), "output_names": list(kernel.outputs)}
    if backend == "metal":
        return mx.fast.metal_kernel(source=kernel.text(), **names)
    return mx.fast.cuda_kernel(source=cuda_body(kernel.text()), header=cuda_header(), **names)


def whole(count: int, unit: int) -> int:
    """`count` rounded up to a multiple of `unit`."""
    return -(-count // unit) * unit


def cuda_header() -> str:
    """The functions of Metal's library that the texts use, in CUDA's words."""
    return Path(__file__).with_name("metal_words.cuh").read_text(encoding="utf-8")


def cuda_body(text: str) -> str:
    """A Metal body as a CUDA body: memory spaces renamed, thread numbers computed first."""
    text = re.sub(r"\bconst threadgroup (?=\w+\*)", "const ", text)
    return CUDA_THREAD + re.sub(r"\bthreadgroup (?=\w+ \w+\[)", "__shared__ ", text)


CUDA_THREAD = """
  const uint thread_index_in_threadgroup = threadIdx.x;
  const uint thread_index_in_simdgroup = threadIdx.x & 31u;
  const uint simdgroup_index_in_threadgroup = threadIdx.x >> 5;
  const uint3 threadgroup_position_in_grid = make_uint3(blockIdx.x, blockIdx.y, blockIdx.z);
  (void)thread_index_in_simdgroup;
  (void)simdgroup_index_in_threadgroup;
"""
