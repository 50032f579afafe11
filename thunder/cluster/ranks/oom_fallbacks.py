"""Shapes from the wanted one downwards, all with the same global batch; which one a chip can do is remembered."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from thunder import digest

INCIDENT_FILE = "gpu_incidents.jsonl"
# MLX's own limits are 20 to 50 operations and 40 to 50 MB, by device; shorter buffers give the watchdog less to time.
SHORTER_BUFFERS = ((10, 20), (4, 10))


@dataclass(frozen=True)
class Fallback:
    """How one rank computes its share of an update.

    micro_batch_size: rows that go through the model at once. ops_per_buffer, mb_per_buffer: limits of a Metal command
    buffer (None: MLX's own). grad_checkpoint: activations are recomputed in the backward pass.
    """

    micro_batch_size: int
    ops_per_buffer: int | None = None
    mb_per_buffer: int | None = None
    grad_checkpoint: bool = False

    @property
    def env(self) -> dict[str, str]:
        """What MLX reads."""
        limits = {"MLX_MAX_OPS_PER_BUFFER": self.ops_per_buffer, "MLX_MAX_MB_PER_BUFFER": self.mb_per_buffer}
        return {key: str(value) for key, value in limits.items() if value is not None}

    @property
    def arguments(self) -> tuple[str, ...]:
        """What `thunder rank` is told."""
        return (
            "--micro-batch-size",
            str(self.micro_batch_size),
            *(["--grad-checkpoint"] if self.grad_checkpoint else []),
        )

    def __str__(self) -> str:
        parts = [f"micro-batch {self.micro_batch_size}"]
        if self.ops_per_buffer is not None:
            parts.append(f"command buffers of {self.ops_per_buffer} operations, {self.mb_per_buffer} MB")
        return ", ".join(parts + (["gradient checkpointing"] if self.grad_checkpoint else []))


def fallback_sequence(
    batch_size: int, grad_checkpoint: bool = False, may_recompute: bool = True
) -> tuple[Fallback, ...]:
    """The ladder of a batch size per rank: micro-batch halved, then shorter command buffers, then recomputation.

    may_recompute: whether activations can be computed again with the same result.
    """
    sequence = [Fallback(batch_size, grad_checkpoint=grad_checkpoint)]
    while sequence[-1].micro_batch_size > 1:
        sequence.append(replace(sequence[-1], micro_batch_size=sequence[-1].micro_batch_size // 2))
    for operations, megabytes in SHORTER_BUFFERS:
        sequence.append(replace(sequence[-1], ops_per_buffer=operations, mb_per_buffer=megabytes))
    if may_recompute and not grad_checkpoint:
        sequence.append(replace(sequence[-1], grad_checkpoint=True))
    return tuple(sequence)


@dataclass(frozen=True)
class WorkloadShape:
    """What an incident is remembered by: chips of the hosts, base model, and the shape that was wanted."""

    chips: tuple[str, ...]
    model: str
    batch_size: int
    num_layers: int
    max_seq_length: int
    grad_checkpoint: bool


def remembered_fallback(folder: Path, shape: WorkloadShape) -> tuple[int, str]:
    """(rung to start at, the run that taught so) for a shape; (0, "") where nothing went wrong with it so far.

    A line that cannot be read is skipped: the memory is a hint, and the ladder finds its way without it.
    """
    index, run = 0, ""
    shape_sha256 = digest.sha256_json(asdict(shape))
    for incident in _read_incidents(folder):
        if incident["shape_sha256"] == shape_sha256 and incident["next_rung"] > index:
            index, run = incident["next_rung"], str(incident["run"])
    return index, run


def chip_incidents(folder: Path, chip: str, model: str) -> list[tuple[str, WorkloadShape]]:
    """(run, shape) of what a chip could not do with a model; its batch is what went through the model at once."""
    result = []
    for incident in _read_incidents(folder):
        try:
            shape = WorkloadShape(**{field.name: incident[field.name] for field in fields(WorkloadShape)})
            failed = fallback_sequence(shape.batch_size, shape.grad_checkpoint)[max(0, incident["next_rung"] - 1) :][0]
        except (KeyError, TypeError, IndexError):
            continue
        if chip in shape.chips and shape.model == model:
            result.append((str(incident["run"]), replace(shape, batch_size=failed.micro_batch_size)))
    return result


def _read_incidents(folder: Path) -> Iterator[dict[str, Any]]:
    """What is remembered, but for lines that cannot be read."""
    try:
        lines = (folder / INCIDENT_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            incident: dict[str, Any] = json.loads(line)
            required = {key: incident[key] for key in ("shape_sha256", "run")}
            yield incident | required | {"next_rung": int(incident["next_rung"])}
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue


def record_incident(folder: Path, shape: WorkloadShape, next_rung: int, **incident: Any) -> None:
    """Add one incident; the file is there for people to read and to remove."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {**incident, "next_rung": next_rung, **asdict(shape), "shape_sha256": digest.sha256_json(asdict(shape))}
    with (folder / INCIDENT_FILE).open("ab+") as stream:
        # a line that was cut off shall not take this one with it
        torn = stream.tell() and (stream.seek(-1, os.SEEK_END), stream.read(1))[1] != b"\n"
        text = "\n" * bool(torn) + json.dumps(record, ensure_ascii=False) + "\n"
        stream.write(text.encode(errors="backslashreplace"))


def distinct_chips(names: Sequence[str]) -> tuple[str, ...]:
    """The different chips of a cluster, in an order that does not depend on the hosts'."""
    return tuple(sorted(set(names)))
