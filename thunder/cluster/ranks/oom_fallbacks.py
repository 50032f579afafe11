"""Fallback shapes after a GPU time-out or out of memory, all with the same global batch; per chip the last one is
remembered.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from thunder import digest

INCIDENT_FILE = "gpu_incidents.jsonl"
# MLX's limits are 20 to 50 operations and 40 to 50 MB, by device; shorter buffers finish sooner for the GPU watchdog.
SHORTER_BUFFERS = ((10, 20), (4, 10))


@dataclass(frozen=True)
class Fallback:
    """How one rank computes its share of an update.

    micro_batch_size: rows per forward pass. ops_per_buffer, mb_per_buffer: limits of a Metal command buffer (None:
    MLX's default). grad_checkpoint: activations are recomputed in the backward pass.
    """

    micro_batch_size: int
    ops_per_buffer: int | None = None
    mb_per_buffer: int | None = None
    grad_checkpoint: bool = False

    @property
    def env(self) -> dict[str, str]:
        """Environment variables that MLX reads."""
        limits = {"MLX_MAX_OPS_PER_BUFFER": self.ops_per_buffer, "MLX_MAX_MB_PER_BUFFER": self.mb_per_buffer}
        return {key: str(value) for key, value in limits.items() if value is not None}

    @property
    def arguments(self) -> tuple[str, ...]:
        """Arguments of `thunder rank`."""
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
    """Return the shapes to try for a batch size per rank: halved micro-batches, shorter command buffers, recomputation.

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
    """The key of a remembered incident: chips of the hosts, base model, and the requested shape."""

    chips: tuple[str, ...]
    model: str
    batch_size: int
    num_layers: int
    max_seq_length: int
    grad_checkpoint: bool


def remembered_fallback(folder: Path, shape: WorkloadShape) -> tuple[int, str]:
    """Return (index of the fallback to start at, the run that learned it) for a shape; (0, "") without an incident.

    Lines that cannot be read are skipped: the file is a hint, and the sequence works without it.
    """
    index, run = 0, ""
    shape_sha256 = digest.sha256_json(asdict(shape))
    for incident in _read_incidents(folder):
        if incident["shape_sha256"] == shape_sha256 and incident["next_rung"] > index:
            index, run = incident["next_rung"], str(incident["run"])
    return index, run


def chip_incidents(folder: Path, chip: str, model: str) -> list[tuple[str, WorkloadShape]]:
    """Return (run, shape) for each shape that failed on a chip with a model; its batch size is the rows per forward
    pass.
    """
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
    """Yield the remembered incidents; lines that cannot be read are skipped."""
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
    """Append one incident; people may read and remove the file."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {**incident, "next_rung": next_rung, **asdict(shape), "shape_sha256": digest.sha256_json(asdict(shape))}
    with (folder / INCIDENT_FILE).open("ab+") as stream:
        # do not append to a line that was cut off
        torn = stream.tell() and (stream.seek(-1, os.SEEK_END), stream.read(1))[1] != b"\n"
        text = "\n" * bool(torn) + json.dumps(record, ensure_ascii=False) + "\n"
        stream.write(text.encode(errors="backslashreplace"))


def distinct_chips(names: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct chips of a cluster, in an order that does not depend on the hosts' order."""
    return tuple(sorted(set(names)))
