"""Runs a kernel's Metal text on this CPU: MLX's own signature around it, a fibre for each thread, 32 to a SIMD-group.

Fibres change only at barriers and SIMD-group operations, in the order asked for. Threadgroup memory, outputs and (by
the compiler) locals begin as NaN patterns. Built plain, with address and undefined-behaviour checks, or race checks.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from thunder.kernels.gpu_launch import GpuKernel, KernelLaunch

FOLDER = Path(__file__).parent
CACHE = Path(tempfile.gettempdir()) / f"metal-lane-{os.getuid()}"
TIMEOUT = 120  # seconds for one compilation or one run
COMPILER = next((found for name in ("clang++", "clang++-19", "clang++-16", "g++") if (found := shutil.which(name))), "")
ORDERS = {"forward": 0, "reverse": 1, "random": 5}
FLAGS = {
    "plain": ["-O1"],
    "asan": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"],
    "tsan": ["-O1", "-g", "-fsanitize=thread"],
}
RUNTIME_FLAGS = {
    "plain": ["-O2"],
    "asan": ["-O1", "-g", "-fsanitize=address", "-DEMU_ASAN"],
    "tsan": ["-O2", "-g", "-DEMU_TSAN"],  # itself without race checks: only the kernel's accesses count
}
TYPES = {
    mx.float32: "float", mx.float16: "float16_t", mx.bfloat16: "bfloat16_t", mx.int32: "int32_t", mx.uint32: "uint32_t",
}  # fmt: skip
ATTRIBUTES = {
    name: "uint3" if name.endswith("_in_grid") or "position" in name else "uint"
    for name in (
        "simdgroup_index_in_threadgroup", "thread_index_in_simdgroup", "thread_index_in_threadgroup",
        "thread_position_in_grid", "thread_position_in_threadgroup", "threadgroup_position_in_grid",
    )
}  # fmt: skip


class Found(Exception):
    """The lane refused the text, or a check of its build spoke up; the message is what it said."""


@dataclass
class Lane:
    """One way to run texts; its `run` stands in for `thunder.kernels.gpu_launch.launch_kernel`."""

    build: str = "plain"
    order: str = "forward"
    compiler: str = COMPILER
    rewrite: dict[str, str] = field(default_factory=dict)  # kernel name -> text to run in its place
    runs: int = 0

    def run(self, kernel: GpuKernel, backend: str, inputs: Any, launch: KernelLaunch) -> list[mx.array]:
        """The outputs as a GPU would leave them; raises Found."""
        mx.eval(*inputs)
        program = self.program(kernel, inputs, launch)
        blob = [
            struct.pack("<8i", *launch.grid, *launch.threadgroup, ORDERS[self.order], len(inputs) + len(launch.shapes))
        ]
        for array in inputs:
            blob.append(packed(raw(array), written=False))
        for shape, kind in zip(launch.shapes, launch.dtypes, strict=True):
            blob.append(packed(b"\xff" * (int(np.prod(shape)) * kind.size), written=True))
        environment = os.environ | {
            "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
            "TSAN_OPTIONS": "halt_on_error=0:exitcode=66",
            "UBSAN_OPTIONS": "halt_on_error=1",
        }
        environment.pop("LD_PRELOAD", None)
        process = subprocess.run([program], input=b"".join(blob), capture_output=True, env=environment, timeout=TIMEOUT)
        self.runs += 1
        if process.returncode:
            raise Found(f"{kernel.name}: exit {process.returncode}: {process.stderr.decode(errors='replace')[:3000]}")
        return unpacked(process.stdout, launch)

    def program(self, kernel: GpuKernel, inputs: Any, launch: KernelLaunch) -> Path:
        """The executable for this kernel, these constants and this build; compiled once."""
        text = self.rewrite.get(kernel.name, kernel.source_text())
        source = harness(signature(kernel, text, inputs, launch), kernel, text, inputs, launch)
        shared = "".join((FOLDER / name).read_text() for name in ("metal_shim.h", "runtime.h", "runtime.cpp"))
        common = [self.compiler, "-std=c++17", f"-I{FOLDER}", "-w"]
        runtime = CACHE / f"runtime-{self.build}-{digest(shared, *common, *RUNTIME_FLAGS[self.build])}.o"
        make([*common, *RUNTIME_FLAGS[self.build], "-c", str(FOLDER / "runtime.cpp")], runtime)
        strict = ["-fno-exceptions", "-fno-rtti", "-ffp-contract=off", "-ftrivial-auto-var-init=pattern"]
        if "clang" in self.compiler and self.build == "asan":
            strict.append("-fno-sanitize=function")
        name = digest(source, shared, *common, *strict, *FLAGS[self.build])
        source_file = CACHE / f"{name}.cpp"
        if not (CACHE / name).exists():
            CACHE.mkdir(exist_ok=True)
            beside = source_file.with_suffix(f".{os.getpid()}")  # another worker may be compiling the same text
            beside.write_text(source)
            os.replace(beside, source_file)
        make([*common, *strict, *FLAGS[self.build], str(source_file), str(runtime)], CACHE / name)
        return CACHE / name


def raw(array: mx.array) -> bytes:
    """An array's bytes, row after row."""
    if array.dtype == mx.bfloat16:
        array = array.view(mx.uint16)
    return np.ascontiguousarray(np.array(array)).tobytes()


def packed(content: bytes, written: bool) -> bytes:
    """One buffer as the harness reads it."""
    return struct.pack("<qi", len(content), written) + content


def unpacked(content: bytes, launch: KernelLaunch) -> list[mx.array]:
    """The outputs that the harness wrote, one behind the other."""
    arrays, begin = [], 0
    for shape, kind in zip(launch.shapes, launch.dtypes, strict=True):
        size = int(np.prod(shape)) * kind.size
        whole = np.frombuffer(content[begin : begin + size], np.uint8).copy()
        arrays.append(mx.array(whole).view(kind).reshape(shape))
        begin += size
    return arrays


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def make(command: list[str], target: Path) -> None:
    """Compile unless it is there; raises Found where the compiler refuses the text."""
    if target.exists():
        return
    CACHE.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=CACHE, delete=False) as beside:
        pass
    process = subprocess.run([*command, "-o", beside.name], capture_output=True, text=True, timeout=TIMEOUT)
    if process.returncode:
        os.unlink(beside.name)
        raise Found(f"does not compile: {process.stderr[:3000]}")
    os.replace(beside.name, target)


def signature(kernel: GpuKernel, text: str, inputs: Any, launch: KernelLaunch) -> str:
    """The whole text as MLX writes it around a body (mlx/backend/metal/custom_kernel.cpp)."""
    shapes = [f"{name}{part}" for name in kernel.inputs for part in ("_shape", "_strides", "_ndim")]
    assert not any(name in text for name in shapes), "MLX would add arguments for shapes and strides"
    kinds = [
        f"{'bool' if isinstance(value, bool) else 'int' if isinstance(value, int) else 'typename'} {name}"
        for name, value in launch.constants
    ]
    parameters = [
        f"  const {'constant' if array.size < 8 else 'device'} {TYPES[array.dtype]}* {name} [[buffer({place})]]"
        for place, (name, array) in enumerate(zip(kernel.inputs, inputs, strict=True))
    ]
    parameters += [
        f"  device {TYPES[kind]}* {name} [[buffer({place})]]"
        for place, (name, kind) in enumerate(zip(kernel.outputs, launch.dtypes, strict=True), len(kernel.inputs))
    ]
    parameters += [f"  {kind} {name} [[{name}]]" for name, kind in sorted(ATTRIBUTES.items()) if name in text]
    head = f"template <{', '.join(kinds)}>\n[[kernel]] void custom_kernel_{kernel.name}(\n"
    return head + ",\n".join(parameters) + f") {{\n{text}\n}}\n"


def instance(launch: KernelLaunch) -> str:
    """The constants as template arguments."""
    return ", ".join(str(int(value)) if isinstance(value, int) else TYPES[value] for _, value in launch.constants)


THREADGROUP = re.compile(r"\bthreadgroup\s+(\w+)\s+(\w+)\s*((?:\[[^\];]*\]\s*)+);")


def harness(whole: str, kernel: GpuKernel, text: str, inputs: Any, launch: KernelLaunch) -> str:
    """A program that reads the buffers, runs every group and writes the outputs."""
    # threadgroup arrays become places in the group's arena; nothing else of the text changes
    whole = THREADGROUP.sub(lambda m: f"auto& {m[2]} = emu::tg_alloc<{m[1]}{m[3].strip()}>(__LINE__);", whole)
    whole = re.sub(r"\[\[\w+(?:\(\w*\))?\]\]", "", whole)
    arguments = [f"(const {TYPES[array.dtype]}*)b[{place}]" for place, array in enumerate(inputs)]
    arguments += [f"({TYPES[kind]}*)b[{place}]" for place, kind in enumerate(launch.dtypes, len(inputs))]
    arguments += [f"c.{name}" for name in sorted(ATTRIBUTES) if name in text]
    call = f"custom_kernel_{kernel.name}<{instance(launch)}>({', '.join(arguments)});"
    return (
        f'#include "metal_shim.h"\nusing namespace metal;\n#line 1 "kernel.metal"\n{whole}\n'
        f'#line 1 "harness.cpp"\n{(FOLDER / "harness.cpp").read_text().replace("CALL_THE_KERNEL", call)}'
    )
