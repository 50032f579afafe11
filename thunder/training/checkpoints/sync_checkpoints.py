"""Give all hosts the same checkpoint before the first step: the newest whole one that any rank has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.parallel import collectives
from thunder.parallel.world import World
from thunder.runs.records.run_record import RunRecord
from thunder.training.checkpoints import checkpoint, checkpoint_manifest


@dataclass(frozen=True)
class ChosenCheckpoint:
    """The checkpoint that the ranks continue from, a rank that has it, and the ranks that lack it."""

    step: int
    sha256: str
    source: int
    lacking: tuple[int, ...]
    notes: tuple[str, ...]


def choose_checkpoint(held: Sequence[Mapping[int, str]]) -> ChosenCheckpoint | None:
    """The newest step among all ranks' {step: SHA-256 of the manifest}; of the lowest rank that has it (pure)."""
    newest = max((step for steps in held for step in steps), default=None)
    if newest is None:
        return None
    source = next(rank for rank, steps in enumerate(held) if newest in steps)
    sha256 = held[source][newest]
    notes = [
        f"rank {rank} has another checkpoint of step {newest} ({steps[newest][:12]}) than rank {source} "
        f"({sha256[:12]}); that of rank {source} is used"
        for rank, steps in enumerate(held)
        if steps.get(newest, sha256) != sha256
    ]
    lacking = tuple(rank for rank, steps in enumerate(held) if steps.get(newest) != sha256)
    return ChosenCheckpoint(newest, sha256, source, lacking, tuple(notes))


def sync_checkpoints(
    world: World, record: RunRecord, *, fingerprint: Mapping[str, str], ranks: int, force: bool = False
) -> Path | None:
    """This rank's folder of the checkpoint that all ranks continue from, copied here where it was missing.

    Ranks on one host share a folder of checkpoints; only the primary rank of the host writes. ranks: as planned.
    None, on every rank, where no rank has any checkpoint.

    Raises ArtifactError, on every rank, where every checkpoint is damaged, or where the newest one has another
    fingerprint and `force` is false.
    """
    root, damage = record.checkpoints, []
    valid = checkpoint.valid_checkpoints(root, damage.append)
    reports: list[dict[str, Any]] = collectives.gather_json(
        world,
        {
            "held": [[content["step"], checkpoint_manifest.manifest_sha256(folder)] for folder, content in valid],
            "mismatches": {
                content["step"]: checkpoint_manifest.fingerprint_mismatches(content, fingerprint, ranks)
                for _, content in valid
            },
            "damage": damage,
            "folders": len(checkpoint.checkpoint_folders(root)),
        },
    )
    for rank, report in enumerate(reports):
        for text in report["damage"]:
            record.log(f"rank {rank}: {text}")
    chosen = choose_checkpoint([dict(report["held"]) for report in reports])
    if chosen is None:
        if count := max(report["folders"] for report in reports):
            raise checkpoint.all_damaged_error(str(root), count)
        return None
    for note in chosen.notes:
        record.log(note)
    if lines := reports[chosen.source]["mismatches"][str(chosen.step)]:
        checkpoint.report_mismatches(f"checkpoint of step {chosen.step}", lines, force, record.log)
    return _send_checkpoint(world, record, chosen)


def _send_checkpoint(world: World, record: RunRecord, chosen: ChosenCheckpoint) -> Path:
    """Send the chosen checkpoint from its source to the ranks that lack it; returns each rank's folder of it."""
    root = record.checkpoints
    folder = root / f"step-{chosen.step:07d}"
    if not chosen.lacking:
        return folder
    names = ", ".join(str(rank) for rank in chosen.lacking)
    record.log(f"sending the checkpoint of step {chosen.step} from rank {chosen.source} to rank {names}")
    is_source = world.rank == chosen.source
    is_writer = record.is_primary and world.rank in chosen.lacking
    beside = checkpoint.make_temporary_folder(root, chosen.step) if is_writer else None

    def copy_file(name: str) -> bytes:
        data = collectives.broadcast_bytes(world, chosen.source, (folder / name).read_bytes() if is_source else None)
        record.progress()
        if beside is not None:
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            digest.write_atomically(beside / name, data)
        return data

    content = checkpoint_manifest.parse_checkpoint_manifest(
        copy_file(checkpoint_manifest.MANIFEST), f"manifest of rank {chosen.source}"
    )
    for name in sorted(content["files"]):
        copy_file(name)
    if beside is not None:
        checkpoint_manifest.verify_checkpoint_files(beside)
        checkpoint.commit_checkpoint(beside, root, chosen.step)
    # a rank that shares the folder of a primary rank reads only after that rank has renamed
    collectives.sum_numbers(world, [1.0])
    assert folder.is_dir() and checkpoint_manifest.manifest_sha256(folder) == chosen.sha256, (
        f"rank {world.rank}: no primary rank wrote {folder}"
    )
    return folder
