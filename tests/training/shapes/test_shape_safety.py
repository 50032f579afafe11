"""Verdicts on shapes: the published pair, presets, past incidents, and properties of the judgment."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.config import SettingsLayer, build_settings, load_yaml
from thunder.launcher.options import setting_layers as cli_settings
from thunder.lora.lora_settings import LoraSettings
from thunder.training.shapes import chips, shape_safety
from thunder.training.shapes.model_size import E2B_CONFIG, model_size_from_config
from thunder.training.shapes.shape_safety import E2B, SAFETY_LEVELS, GpuIncident, judge_shape
from thunder.training.shapes.step_cost import TrainingShape

PUBLISHED = chips.published_chips()
PAIR = ("Apple M4", "Apple M4 Pro")
MEMORY = {"Apple M4": 16 * 2**30, "Apple M4 Pro": 24 * 2**30}
TINY = model_size_from_config(
    E2B_CONFIG | {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 6, "num_kv_shared_layers": 1,
                  "vocab_size": 4000, "vocab_size_per_layer_input": 4000, "head_dim": 32, "global_head_dim": 64}
)  # fmt: skip
SLOW = replace(PUBLISHED["Apple M4"], float32=1e9, reduced=1e9, quantised=1e9, attention=1e9, bandwidth=1e9)
"""An M4 whose limits small models reach: its known trials become slower by the same factor, and the limits stay."""


@pytest.mark.parametrize("chip", PAIR)
@pytest.mark.parametrize(
    ("shape", "verdict"),
    [
        (TrainingShape(1, 4, 256), "safe"),
        (TrainingShape(1, 1, 32), "safe"),
        (TrainingShape(2, 8, 512), "unsafe"),
        (TrainingShape(4, 16, 2048), "unsafe"),
        (TrainingShape(2, 4, 256), "likely"),
        (TrainingShape(2, 8, 512, path="supervised", supervised_share=0.3), "safe"),
    ],
)
def test_the_published_pair_is_on_its_sides(chip, shape, verdict):
    """With and without the memory of the two machines that it was run on."""
    assert judge_shape(E2B, shape, PUBLISHED[chip]).verdict == verdict
    assert judge_shape(E2B, shape, PUBLISHED[chip], MEMORY[chip]).verdict == verdict


@pytest.mark.parametrize("chip", PAIR)
def test_a_measured_chip_keeps_the_pair_on_its_sides(chip):
    """What a measurement says of the chip's speed moves the trials and the shapes alike."""
    fast = replace(PUBLISHED[chip], reduced=PUBLISHED[chip].reduced * 1.7, bandwidth=90e9, source="measured")
    assert judge_shape(E2B, shape_safety.KNOWN_SAFE, fast).verdict == "safe"
    assert judge_shape(E2B, shape_safety.KNOWN_KILLED, fast).verdict == "unsafe"


def test_every_preset_is_safe_on_both():
    presets = sorted((cli_settings.CONFIGS / "presets").glob("*.yaml"))
    assert presets
    for path in presets:
        said, _ = build_settings(LoraSettings, [SettingsLayer(str(path), load_yaml(path))])
        shape = TrainingShape(
            said.batch_size, said.num_layers, said.max_seq_length, said.lora_rank, said.grad_checkpoint
        )
        for chip in PAIR:
            assert judge_shape(E2B, shape, PUBLISHED[chip], MEMORY[chip]).verdict == "safe", path.name


def test_the_reason_names_the_command_its_seconds_and_the_memory():
    killed = judge_shape(E2B, TrainingShape(2, 8, 512), PUBLISHED["Apple M4"], 64 * 2**30)
    assert killed.part == "head, backward" and "head, backward" in killed.reason
    assert f"{killed.buffer_seconds:.3f} s of the watchdog's 5" in killed.reason
    # 1,024 positions x 1,536 x 262,144, at what is reached of 8 cores x 128 lanes x 1.47 GHz
    assert killed.buffer_seconds == pytest.approx(1024 * 1536 * 262144 / (8 * 128 * 1.47e9 * 0.6), rel=0.25)
    paging = judge_shape(E2B, TrainingShape(1, 16, 256), PUBLISHED["Apple M4"], 16 * 2**30)
    assert paging.verdict == "likely" and "page" in paging.reason
    full = judge_shape(E2B, TrainingShape(1, 35, 256), PUBLISHED["Apple M4"], 8 * 2**30)
    assert full.verdict == "unsafe" and "the machine has 8.6 GB" in full.reason and full.nearest_safe is None


def test_a_chip_without_a_watchdog_has_only_its_memory_to_fear():
    cpu = replace(SLOW, name="Some CPU")
    assert judge_shape(E2B, TrainingShape(64, 35, 4096), cpu).verdict == "safe"
    assert judge_shape(E2B, TrainingShape(64, 35, 4096), cpu, 16 * 2**30).verdict == "unsafe"


def test_a_past_incident_wins():
    chip = PUBLISHED["Apple M4"]
    past = [GpuIncident("run-7", 1, 4, 128)]
    found = judge_shape(E2B, TrainingShape(1, 4, 256), chip, incidents=past)
    assert found.verdict == "unsafe" and "run-7" in found.reason
    assert found.nearest_safe is not None and not past[0].covers(found.nearest_safe)
    for smaller in (TrainingShape(1, 4, 64), TrainingShape(1, 3, 256)):
        assert judge_shape(E2B, smaller, chip, incidents=past).verdict == "safe"
    recomputed = TrainingShape(1, 4, 256, grad_checkpoint=True)
    assert judge_shape(E2B, recomputed, chip, incidents=past).verdict == "safe", "it was not that which was killed"


SHAPES = st.builds(
    TrainingShape, st.integers(1, 32), st.integers(1, 6), st.integers(8, 2048), st.just(8), st.booleans(),
    st.sampled_from(["plain", "supervised"]), st.floats(0.05, 1),
)  # fmt: skip
LIMITED = replace(PUBLISHED["Apple M4"], reduced=2e9, bandwidth=1e9, attention=2e9)


def limited(shape, memory=None):
    """A verdict whose bounds, unlike a real chip's, a tiny model can pass."""
    return shape_safety.judge_shape(TINY, shape, LIMITED, memory)


@pytest.fixture
def bounds(monkeypatch):
    monkeypatch.setattr(shape_safety, "known_limits", lambda chip: (0.5, 2.0))


@pytest.mark.expensive
@settings(max_examples=40)
@given(SHAPES, st.sampled_from(["batch_size", "num_layers", "max_seq_length"]), st.integers(1, 40), st.data())
def test_a_larger_shape_is_never_judged_safer(shape, field, more, data):
    memory = data.draw(st.sampled_from([None, 2 * 10**7, 10**8, 10**9]))
    larger = replace(shape, **{field: getattr(shape, field) + more})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shape_safety, "known_limits", lambda chip: (0.5, 2.0))
        small, large = limited(shape, memory), limited(larger, memory)
    assert SAFETY_LEVELS.index(large.verdict) >= SAFETY_LEVELS.index(small.verdict)
    assert large.buffer_seconds >= small.buffer_seconds and large.step_seconds >= small.step_seconds


@pytest.mark.expensive
@settings(max_examples=30)
@given(SHAPES, st.sampled_from([None, 10**7, 3 * 10**7, 10**8, 10**9]))
def test_the_nearest_safe_shape_is_safe_and_no_larger(shape, memory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shape_safety, "known_limits", lambda chip: (0.5, 2.0))
        found = limited(shape, memory)
        near = found.nearest_safe
        if near is None:
            smallest = replace(shape, batch_size=1, num_layers=1, max_seq_length=min(32, shape.max_seq_length))
            assert limited(smallest, memory).verdict != "safe"
            return
        assert limited(near, memory).verdict == "safe"
    assert all(asdict(near)[name] <= getattr(shape, name) for name in ("batch_size", "num_layers", "max_seq_length"))
    assert (near == shape) == (found.verdict == "safe")


def test_flags_of_a_shape():
    assert shape_safety.shape_flags(TrainingShape(1, 2, 3)) == "--batch-size 1 --num-layers 2 --max-seq-length 3"
