"""What Apple's compiler refuses and the lanes would take: found by words, and by clang's front end for OpenCL C++."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import mlx.core as mx

from emulator.lane import TIMEOUT, TYPES, signature
from thunder.kernels.gpu_launch import GpuKernel, KernelLaunch

FOLDER = Path(__file__).parent
CLANG = next((found for name in ("clang++", "clang++-19", "clang++-16") if (found := shutil.which(name))), "")
REFUSED = {
    "a lambda": r"\[\s*[&=]?\s*\]\s*\(",
    "double": r"\bdouble\b|\b\d+\.\d*(?![\dfFeE])|\b\d+\.?\d*[eE][+-]?\d+(?!\d|[fF])",
    "the standard library": r"\bstd::|#\s*include",
    "heap or exceptions": r"\b(?:new|delete|malloc|throw|try|catch|virtual|dynamic_cast|typeid)\b",
    "goto": r"\bgoto\b",
    "a function pointer": r"\(\s*\*\s*\w+\s*\)\s*\(",
    "a 16-bit index": r"\b(?:u?short|u?int16_t)\s+\w+\s*=",
    "an unqualified library word": r"(?<!:)\b(?:simd_\w+|threadgroup_barrier|exp|log|min|max)\s*\(",
    "static": r"\bstatic\b(?!_)",
}


def words(text: str) -> list[str]:
    """Names of what the text must not have."""
    text = re.sub(r"//[^\n]*", "", text)
    return [name for name, pattern in REFUSED.items() if re.search(pattern, text)]


def front(kernel: GpuKernel, text: str, inputs: Any, launch: KernelLaunch) -> str:
    """What clang's front end for OpenCL C++ says of address spaces and types; empty where it has nothing to say."""
    whole = signature(kernel, text, inputs, launch)
    whole = re.sub(r"template <[^>]*>\n(?=\[\[kernel\]\])", "", whole).replace("[[kernel]] void", "__kernel void")
    whole = re.sub(r"\[\[\w+(?:\(\w*\))?\]\]", "", whole)
    constants = "".join(
        f"enum {{ {name} = {int(value)} }};\n" if isinstance(value, int) else f"typedef {TYPES[value]} {name};\n"
        for name, value in launch.constants
    )
    extensions = "-cl-ext=-all,+cl_khr_fp16,-__opencl_c_generic_address_space,-__opencl_c_fp64"
    command = [
        CLANG, "-x", "clcpp", "-cl-std=CLC++2021", "-Xclang", extensions, "-target", "spir64", "-fsyntax-only", "-Wall",
        "-Wextra", "-Werror", "-Wdouble-promotion", "-Wno-unused", "-Wno-sign-compare", "-Wno-gcc-compat",
        f"-I{FOLDER}", "-",
    ]  # fmt: skip
    source = f'#include "front.h"\n{constants}#line 1 "kernel.metal"\n{whole}'
    process = subprocess.run(command, input=source, capture_output=True, text=True, timeout=TIMEOUT)
    return process.stderr if process.returncode else ""


def example(kernel: GpuKernel, kind: mx.Dtype = mx.float32) -> KernelLaunch:
    """A launch to look at a text with."""
    constants: dict[str, Any] = {"TG": 64, "STATES": 64}
    if kernel.name.startswith("ttt"):
        constants = {"InT": kind, "D": 64, "C": 16, "P": 2, "TG": 64, "STAGED": True, "HEBBIAN": False}
    if kernel.name == "ctc_sweep":
        constants = {"TG": 64}
    outputs = len(kernel.outputs)
    return KernelLaunch(tuple(constants.items()), (64, 1, 1), (64, 1, 1), ((1,),) * outputs, (mx.float32,) * outputs)


INTEGERS = ("sizes", "states", "frame_counts", "state_counts")


def example_inputs(kernel: GpuKernel, kind: mx.Dtype = mx.float32) -> list[mx.array]:
    """Arrays of the right types; one longer than MLX's constant space, but for the sizes."""
    arrays = []
    for name in kernel.inputs:
        typed = mx.int32 if name in INTEGERS else kind if name in ("q", "k", "v") else mx.float32
        arrays.append(mx.zeros((5 if name == "sizes" else 16,), dtype=typed))
    return arrays
