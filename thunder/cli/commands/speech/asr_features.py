"""`thunder asr features`, `merge`, `verify`: frozen features of recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from thunder.acoustic.features import extract, frontend, store_parts
from thunder.acoustic.features.feature_settings import FeatureSettings
from thunder.acoustic.features.recipe import Recipe
from thunder.acoustic.features.shard import row_bytes
from thunder.acoustic.features.store import FeatureStore
from thunder.cli.console.output import say
from thunder.cli.console.progress_bars import rows_bar
from thunder.cli.parsing.flags import AsJson, ConfigFile, DryRun, flags
from thunder.config import build_settings
from thunder.errors import Interrupted
from thunder.launcher.options.setting_layers import file_and_flags
from thunder.units import format_bytes, format_seconds

Inputs = Annotated[
    list[Path] | None, typer.Argument(help="metadata.jsonl files, folders, or audio files.", show_default=False)
]


@flags(FeatureSettings)
def features(
    files: Inputs = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    *,
    given: dict[str, Any],
) -> None:
    """Make frozen features of recordings, once; run again after it was stopped, it goes on where it was."""
    if files:
        given = given | {"inputs": [*map(str, files), *given.get("inputs", [])]}
    settings, _ = build_settings(FeatureSettings, file_and_flags(FeatureSettings, config, given))
    width = frontend.feature_width(settings)
    work = extract.plan_extraction(settings)
    if dry_run:
        return _plan(settings, work, width, as_json)
    try:
        with rows_bar(len(work.recordings), "making features") as progress:
            outcome = extract.extract_features(settings, work, progress)
    except KeyboardInterrupt:
        raise Interrupted("features are not complete; shards that are whole stay", "the same command goes on") from None
    _told(settings, work, outcome, as_json)


def merge(
    folder: Annotated[Path, typer.Argument(help="The --out of all parts, gathered.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Write one index over the parts that several hosts made; their files stay where they are."""
    index = store_parts.merge_parts(folder)
    if as_json:
        return say(json.dumps({"out": str(folder), **index}, ensure_ascii=False, indent=4))
    say(_line(folder, index))


def verify(
    folders: Annotated[list[Path], typer.Argument(help="Folders of features.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Read every byte of features and hold it against the index; what is damaged is named (exit code 4)."""
    stores = [FeatureStore.open(folder, verify=True) for folder in folders]
    if as_json:
        found = [{"folder": str(one.folder), "utterances": len(one), "digest": one.digest} for one in stores]
        return say(json.dumps(found, ensure_ascii=False, indent=4))
    for one in stores:
        say(f"{one.folder}: {len(one)} utterances as the index says, digest {one.digest[:16]}")


def _plan(settings: FeatureSettings, work: extract.ExtractionPlan, width: int, as_json: bool) -> None:
    """What would be done: rows are read, recordings are not."""
    known = [one.extra["duration"] for one in work.recordings if isinstance(one.extra.get("duration"), int | float)]
    seconds = sum(known) if len(known) == len(work.recordings) else None
    model = "-" if settings.features == "whisper" else None
    rate = Recipe(kind=settings.features, model=model, subsample=settings.every).frames_per_second
    size = None if seconds is None else round(seconds * rate * row_bytes(settings.dtype, width))
    found = {"recordings": len(work.recordings), "faulty_rows": work.faults.count, "seconds": seconds,
             "frames_per_second": rate, "width": width, "bytes": size}  # fmt: skip
    if as_json:
        return say(json.dumps({"settings": settings.resolved(), **found}, ensure_ascii=False, indent=4))
    for name, value in settings.resolved().items():
        if value is not None:
            say(f"{name:14} {', '.join(value) if isinstance(value, list) else value}")
    length = "of a length not said" if seconds is None else f"{format_seconds(seconds)} in all"
    say(f"{'would read':14} {len(work.recordings)} recordings, {length}; {work.faults.count} rows cannot be used")
    about = "" if size is None else f", about {format_bytes(size)}"
    say(f"{'would write':14} {work.folder}: {rate:g} frames a second of {width} numbers{about}")


def _told(
    settings: FeatureSettings, work: extract.ExtractionPlan, outcome: extract.ExtractionResult, as_json: bool
) -> None:
    faults = [*work.faults.first, *(fault for _, fault in outcome.left_out)]
    count = work.faults.count + len(outcome.left_out)
    if as_json:
        said = {"out": str(outcome.folder), "resumed": outcome.resumed, "notes": dict(outcome.notes),
                "left_out_rows": count, "faults": faults}  # fmt: skip
        return say(json.dumps(said | outcome.index, ensure_ascii=False, indent=4))
    say(_line(outcome.folder, outcome.index))
    if outcome.resumed:
        say(f"  done before: {outcome.resumed}")
    for note, times in sorted(outcome.notes.items()):
        say(f"  {note}: {times}")
    if count:
        say(f"  left out: {count}")
    for fault in faults[:20]:
        say(f"    {fault}")
    if work.part[1] > 1:
        say(f"next: when all {work.part[1]} parts are in {settings.out}, thunder asr merge {settings.out}")


def _line(folder: Path, index: dict[str, Any]) -> str:
    size = sum(shard["bytes"] for shard in index["shards"])
    return (
        f"{folder}: {index['utterances']} utterances, {format_seconds(index['seconds'])}, {index['frames']} frames of "
        f"{index['width']}, {format_bytes(size)} in {len(index['shards'])} shards, digest {index['checksum'][:16]}"
    )
