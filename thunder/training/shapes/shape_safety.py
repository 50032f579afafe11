"""Judge whether a shape is safe for Metal's GPU watchdog and for the memory, from a step's calculated commands.

macOS kills a GPU command buffer that runs for more than about five seconds. By the calculation no shape here comes near
that limit, but one was killed: other delays (the display, paging, waiting for another rank) cannot be calculated. So a
shape is compared with the longest command buffer that is known to have run and the shortest one that is known to have
been killed, both by the same calculation.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from thunder.training.shapes.chips import Chip, published_chips
from thunder.training.shapes.model_size import E2B_CONFIG, ModelSize, model_size_from_config
from thunder.training.shapes.step_cost import GpuCommand, StepCost, TrainingShape, command_buffers, step_cost
from thunder.units import format_bytes

WATCHDOG = 5.0  # seconds
LAUNCH = 5e-6  # least seconds of a kernel: an assumption
LEAST_LENGTH = 32
SafetyLevel = Literal["safe", "likely", "unsafe"]
SAFETY_LEVELS: tuple[SafetyLevel, ...] = ("safe", "likely", "unsafe")


@dataclass(frozen=True)
class KnownTrial:
    """A shape that was run on a chip, and whether it survived the watchdog."""

    chip: str
    size: ModelSize
    shape: TrainingShape
    lived: bool


def _e2b() -> ModelSize:
    size = model_size_from_config(E2B_CONFIG)
    assert size is not None
    return size


E2B = _e2b()
KNOWN_SAFE, KNOWN_KILLED = TrainingShape(1, 4, 256), TrainingShape(2, 8, 512)
KNOWN_TRIALS = tuple(
    KnownTrial(chip, E2B, shape, shape == KNOWN_SAFE)
    for chip in ("Apple M4", "Apple M4 Pro")
    for shape in (KNOWN_SAFE, KNOWN_KILLED)
)


@dataclass(frozen=True)
class GpuIncident:
    """A shape that was killed on a GPU, as the out-of-memory fallbacks record it."""

    run: str
    batch_size: int
    num_layers: int
    max_seq_length: int
    grad_checkpoint: bool = False

    def covers(self, shape: TrainingShape) -> bool:
        """Whether a shape is at least as large in every dimension."""
        return (
            self.grad_checkpoint >= shape.grad_checkpoint
            and shape.batch_size >= self.batch_size
            and shape.num_layers >= self.num_layers
            and shape.max_seq_length >= self.max_seq_length
        )


@dataclass(frozen=True)
class ShapeVerdict:
    """The verdict on a shape on a chip, with its reason.

    part: the slowest part of the longest command buffer. buffer_seconds, step_seconds, peak_bytes: calculated.
    nearest_safe: the shape itself where it is safe; None where no smaller one is safe.
    """

    verdict: SafetyLevel
    reason: str
    nearest_safe: TrainingShape | None
    part: str
    buffer_seconds: float
    step_seconds: float
    peak_bytes: float


def command_seconds(command: GpuCommand, size: ModelSize, chip: Chip) -> float:
    """Seconds of a command: of its operations or its bytes, whichever is slower, plus the launch of its kernels."""
    plain = chip.float32 if size.activation == 4 else chip.reduced
    rate = {"matrix": plain, "elementwise": plain, "quantised": chip.quantised, "attention": chip.attention}
    work = max(command.multiply_adds / rate[command.kind], command.bytes / chip.bandwidth)
    return work + command.dispatches * LAUNCH


def longest_buffer(cost: StepCost, size: ModelSize, chip: Chip) -> tuple[float, GpuCommand]:
    """(seconds, slowest command) of the longest command buffer."""
    best, slowest = 0.0, cost.commands[0]
    for stretch in cost.stretches:
        taken = {id(command): command_seconds(command, size, chip) for command in stretch}
        for run in command_buffers(stretch, chip.operations, chip.megabytes):
            total = sum(taken[id(command)] for command in run)
            if total > best:
                best, slowest = total, max(run, key=lambda command: taken[id(command)])
    return best, slowest


@functools.lru_cache(maxsize=64)
def known_limits(chip: Chip) -> tuple[float, float]:
    """(longest command buffer known to have run, longest known to have been killed) on a chip, in seconds.

    From the trials on this chip, or where there are none, from those on all chips. Between the two limits the outcome
    is not known.
    """
    trials = [trial for trial in KNOWN_TRIALS if trial.chip == chip.name] or KNOWN_TRIALS
    taken = [(trial.lived, _of_trial(trial, chip)) for trial in trials]
    return max(each for lived, each in taken if lived), max(each for lived, each in taken if not lived)


def _of_trial(trial: KnownTrial, chip: Chip) -> float:
    on = chip if chip.name == trial.chip else published_chips()[trial.chip]
    return longest_buffer(step_cost(trial.size, trial.shape), trial.size, on)[0]


def judge_shape(
    size: ModelSize, shape: TrainingShape, chip: Chip, memory: int | None = None, incidents: Sequence[GpuIncident] = ()
) -> ShapeVerdict:
    """Judge a shape. memory: bytes in the machine, if known. incidents: of this chip and model; they win."""
    verdict = shape_verdict(size, shape, chip, memory, incidents)
    if verdict.verdict == "safe":
        return replace(verdict, nearest_safe=shape)
    return replace(verdict, nearest_safe=nearest_safe_shape(size, shape, chip, memory, incidents))


def shape_verdict(
    size: ModelSize, shape: TrainingShape, chip: Chip, memory: int | None = None, incidents: Sequence[GpuIncident] = ()
) -> ShapeVerdict:
    """The same as `judge_shape`, without the search for the nearest safe shape."""
    cost = step_cost(size, shape)
    longest, slowest = longest_buffer(cost, size, chip)
    verdicts = [_by_time(longest, slowest, chip), _by_memory(cost.peak_bytes, chip, memory)]
    verdicts += [("unsafe", f"{each.run} was killed with batch {each.batch_size}, {each.num_layers} layers, "
              f"{each.max_seq_length} tokens") for each in incidents if each.covers(shape)]  # fmt: skip
    word, reason = max(verdicts, key=lambda each: SAFETY_LEVELS.index(each[0]))
    if word == "safe":
        reason = "; ".join(reason for _, reason in verdicts if reason)
    whole = sum(command_seconds(command, size, chip) for command in cost.commands)
    return ShapeVerdict(word, reason, None, slowest.part, longest, whole, cost.peak_bytes)


def _by_time(longest: float, slowest: GpuCommand, chip: Chip) -> tuple[SafetyLevel, str]:
    if not chip.has_watchdog:
        return "safe", "no watchdog on this chip"
    ran, killed = known_limits(chip)
    text = f"longest command buffer {longest:.3f} s of the watchdog's {WATCHDOG:g} ({slowest.part})"
    if longest <= ran:
        return "safe", f"{text}; up to {ran:.3f} s is known to run"
    if longest < min(killed, WATCHDOG):
        return "likely", f"{text}; up to {ran:.3f} s is known to run, {killed:.3f} s to be killed"
    return "unsafe", f"{text}; {min(killed, WATCHDOG):.3f} s is known to be killed"


def working_set(memory: int) -> float:
    """Bytes that macOS lets a GPU use before it pages: two thirds, from 36 GB on three quarters (an assumption)."""
    return memory * (3 / 4 if memory >= 36e9 else 2 / 3)


def _by_memory(peak: float, chip: Chip, memory: int | None) -> tuple[SafetyLevel, str]:
    if memory is None:
        return "safe", f"needs {format_bytes(peak)}"
    usable = chip.memory or (working_set(memory) if chip.has_watchdog else memory)
    text = f"needs {format_bytes(peak)} of memory"
    if peak <= usable:
        return "safe", f"{text} of {format_bytes(usable)}"
    if peak <= memory:
        return "likely", f"{text}, the GPU should use {format_bytes(usable)}: it will page"
    return "unsafe", f"{text}, the machine has {format_bytes(memory)}"


def nearest_safe_shape(
    size: ModelSize, shape: TrainingShape, chip: Chip, memory: int | None = None, incidents: Sequence[GpuIncident] = ()
) -> TrainingShape | None:
    """A safe shape near this one: rows are halved, then tokens, then layers; unnecessary reductions are undone.

    None where even the smallest shape is not safe.
    """

    def is_safe(candidate: TrainingShape) -> bool:
        return shape_verdict(size, candidate, chip, memory, incidents).verdict == "safe"

    near = shape
    fields = (("batch_size", 1), ("max_seq_length", LEAST_LENGTH), ("num_layers", 1))
    for field, least in fields:
        while getattr(near, field) > least and not is_safe(near):
            near = replace(near, **{field: max(least, getattr(near, field) // 2)})
    if not is_safe(near):
        return None
    for field, _ in fields:
        back = replace(near, **{field: getattr(shape, field)})
        near = back if is_safe(back) else near
    return near


def shape_flags(shape: TrainingShape) -> str:
    """A shape as the flags that ask for it."""
    return f"--batch-size {shape.batch_size} --num-layers {shape.num_layers} --max-seq-length {shape.max_seq_length}"
