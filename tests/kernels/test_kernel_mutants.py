"""Mistakes planted in the texts: the lanes that would have to find them do."""

# ruff: noqa: E501 (a mistake is easier to read on one line)
from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from emulator import lint
from emulator.lane import COMPILER, Found, Lane
from gpu_shapes import assert_close, ctc_results, use_lane

from thunder.kernels.ctc import gpu as ctc_gpu
from thunder.kernels.ttt_chunk import gpu as ttt_gpu
from thunder.kernels.ttt_chunk import reference

BARRIER = "metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);\n"
STAGE = "ks[t][d] = t < frames ? static_cast<float>(k[at]) : 0.0f;"
# name -> (old, new)
MUTANTS = {
    "no barrier before staging": ("    " + BARRIER + "    for (uint j", "    for (uint j"),
    "no barrier after staging": (BARRIER + "\n    if (live && c % checkpoint_every", "\n    if (live && c % checkpoint_every"),
    "one frame too many": ("for (int t = 0; t < C; ++t) {\n      float key", "for (int t = 0; t <= C; ++t) {\n      float key"),
    "no guard on the last chunk's keys": (STAGE, "ks[t][d] = static_cast<float>(k[at]);"),
    "no guard on rows": ("if (t < frames && live) {", "if (t < frames) {"),
    "no guard on the last state": ("  if (live) {\n    for (int i = 0; i < PER_LANE; ++i) {\n      last_state", "  {\n    for (int i = 0; i < PER_LANE; ++i) {\n      last_state"),
    "the shuffle skips a lane": ("int mask = 1; mask < P", "int mask = 2; mask < P"),
    "a barrier that some threads miss": ("    " + BARRIER + "\n    if (live && c", "    if (live) " + BARRIER + "\n    if (live && c"),
    "a shuffle that some lanes miss": ("key += metal::simd_shuffle_xor(key, ushort(mask));", "if (l == 0) { key += metal::simd_shuffle_xor(key, ushort(mask)); }"),
    "an error left unset on padding": ("      } else {\n        e[t] = 0.0f;\n      }", "      }"),
    "no retention": ("float next = decay * w[i];", "float next = w[i];"),
    "every lane writes": ("if (l == 0) {\n          q_state", "{\n          q_state"),
    "the sign of the step": ("next -= e[t]", "next += e[t]"),
    "staging overruns by a row": ("j < uint(C * D); j += TG", "j < uint((C + 1) * D); j += TG"),
    "a thread pointer to threadgroup memory": ("float key = 0.0f;", "float key = 0.0f;\n      float* p = ks[t];"),
    "a double": ("float key = 0.0f;", "double key = 0.0f;"),
    "a row in 16 bits": ("const uint row =", "const ushort row ="),
    "a lambda": ("const float decay = retention[h];", "const float decay = retention[h];\n  auto f = [&](float x) { return x; };\n  w[0] = f(w[0]);"),
    "states saved one chunk late": ("c % checkpoint_every == 0", "c % checkpoint_every == 1"),
}  # fmt: skip
CTC_MUTANTS = {
    "no barrier between frames": ("    exchanged[i & 1][s + 2] = weight;\n    " + BARRIER, "    exchanged[i & 1][s + 2] = weight;\n"),
    "one buffer for two": ("exchanged[i & 1][s + 2]", "exchanged[0][s + 2]"),
    "repeats may skip the blank": (" && label != states[b * S + two_before]", ""),
    "dead threads write": ("    if (live) {\n      path_weights", "    {\n      path_weights"),
}  # fmt: skip
BACK_MUTANTS = {
    "no barrier after staging": (BARRIER + "\n    if (live) {", "\n    if (live) {"),
    "what reaches u inside the chunk is left out": ("key + intra_chunk[at]", "key"),
    "chunks from the first on": ("int c = chunks - 1; c >= 0; --c", "int c = 0; c < chunks; ++c"),
    "every lane writes": ("if (l == 0) {\n          u[at]", "{\n          u[at]"),
}  # fmt: skip


def detecting_lane(kernel, text, try_it, monkeypatch) -> str:
    """Which lane finds the fault in `text`, or nothing."""
    if words := lint.words(text):
        return f"words: {words}"
    if lint.CLANG and (message := lint.front(kernel, text, lint.example_inputs(kernel), lint.example(kernel))):
        return f"front end: {message.splitlines()[0]}"
    for build, order in (
        ("plain", "forward"),
        ("plain", "reverse"),
        ("plain", "random"),
        ("asan", "forward"),
        ("tsan", "forward"),
    ):
        use_lane(monkeypatch, Lane(build, order, rewrite={kernel.name: text}))
        try:
            try_it()
        except (Found, AssertionError) as message:
            return f"{build} {order}: {str(message).strip().splitlines()[0][:80]}"
    return ""


def try_forward() -> None:
    """The forward scan at a shape with a ragged last chunk, a ragged last group of rows and two lanes to a row."""
    draw = np.random.default_rng(3)

    def normal(*shape):
        return mx.array(draw.standard_normal(shape) * 0.3, mx.float32)

    q, k, v, eta, state = (
        normal(1, 37, 2, 64),
        normal(1, 37, 2, 64),
        normal(1, 37, 2, 40),
        normal(1, 37, 2) ** 2,
        normal(1, 2, 64, 40),
    )
    arrays, options = (
        (q, k, v, eta, mx.array([0.9, 1.0]), state),
        {"chunk_size": 16, "checkpoint_every": 2, "hebbian": False},
    )
    expected = reference.forward(*arrays, **options)
    actual = ttt_gpu.forward(*arrays, **options, backend="metal")
    assert_close([np.array(x) for x in actual], [np.array(x) for x in expected])


def try_backward() -> None:
    """The backward scan at the same shape."""
    draw = np.random.default_rng(4)

    def normal(*shape):
        return mx.array(draw.standard_normal(shape) * 0.3, mx.float32)

    q, k, eta, dy, intra_chunk = (
        normal(1, 37, 2, 64),
        normal(1, 37, 2, 64),
        normal(1, 37, 2) ** 2,
        normal(1, 37, 2, 40),
        normal(1, 37, 2, 40),
    )
    arrays, options = (
        (q, k, eta, mx.array([0.9, 1.0]), dy, intra_chunk, normal(1, 2, 64, 40)),
        {"chunk_size": 16, "hebbian": False},
    )
    expected = reference.backward(*arrays, **options)
    actual = ttt_gpu.backward(*arrays, **options, backend="metal")
    assert_close([np.array(x) for x in actual], [np.array(x) for x in expected])


def try_sweep() -> None:
    """Repeats, labels over two SIMD-groups, and rows of unequal length."""
    case = (3, 60, 20, 5)
    assert_close(ctc_results(case, "metal"), ctc_results(case, "reference"))


def mutated(kernel, old: str, new: str) -> str:
    text = kernel.source_text()
    assert old in text, "the text has changed: plant this mistake anew"
    return text.replace(old, new, 1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not COMPILER, reason="neither clang++ nor g++ is installed")
def test_every_planted_mistake_is_caught(monkeypatch):
    planted = (
        (ttt_gpu.FORWARD, MUTANTS, try_forward),
        (ttt_gpu.BACKWARD, BACK_MUTANTS, try_backward),
        (ctc_gpu.SWEEP, CTC_MUTANTS, try_sweep),
    )
    verdicts = {}
    for kernel, mutants, try_it in planted:
        assert detecting_lane(kernel, kernel.source_text(), try_it, monkeypatch) == ""
        for name, edit in mutants.items():
            verdicts[f"{kernel.name}: {name}"] = detecting_lane(kernel, mutated(kernel, *edit), try_it, monkeypatch)
    for name, verdict in verdicts.items():
        print(f"{name}: {verdict or 'NOT CAUGHT'}")
    missed = [name for name, verdict in verdicts.items() if not verdict]
    assert missed == (
        [] if lint.CLANG else ["ttt_chunk_forward: a thread pointer to threadgroup memory"]
    )  # address spaces need clang


@pytest.mark.expensive
@pytest.mark.skipif(not COMPILER, reason="neither clang++ nor g++ is installed")
@pytest.mark.parametrize("name", ["no barrier after staging", "a barrier that some threads miss", "no retention"])
def test_a_few_of_them_at_every_run(name, monkeypatch):
    assert detecting_lane(ttt_gpu.FORWARD, mutated(ttt_gpu.FORWARD, *MUTANTS[name]), try_forward, monkeypatch)
