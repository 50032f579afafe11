"""`thunder asr features`, `merge`, `verify`: frozen features of recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from thunder.acoustic.features import extract, frontend, store_parts
from thunder.acoustic.features.feature_settings import FeatureSettings
from thunder.acoustic.features.recipe import Recipe
from thunder.acoustic.features.recordings import summarize_recordings
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
    """Compute frozen features of recordings once; the same command resumes an interrupted extraction."""
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
        raise Interrupted(
            "features are not complete; finished shards are kept", "run the same command to resume"
        ) from None
    _print_result(settings, work, outcome, as_json)


def merge(
    folder: Annotated[Path, typer.Argument(help="The --out of all parts, gathered.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Write one index over the parts that several hosts made; the parts' files are not moved."""
    index = store_parts.merge_parts(folder)
    if as_json:
        return say(json.dumps({"out": str(folder), **index}, ensure_ascii=False, indent=4))
    say(_summary_line(folder, index))


def verify(
    folders: Annotated[list[Path], typer.Argument(help="Folders of features.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Read every byte of features and compare it with the index; damage is reported (exit code 4)."""
    stores = [FeatureStore.open(folder, verify=True) for folder in folders]
    if as_json:
        report = [{"folder": str(store.folder), "utterances": len(store), "digest": store.digest} for store in stores]
        return say(json.dumps(report, ensure_ascii=False, indent=4))
    for store in stores:
        say(f"{store.folder}: {len(store)} utterances match the index, digest {store.digest[:16]}")


def _plan(settings: FeatureSettings, work: extract.ExtractionPlan, width: int, as_json: bool) -> None:
    """Print what the command would do; it reads the rows and not the recordings."""
    durations = (recording.extra.get("duration") for recording in work.recordings)
    known = [duration for duration in durations if isinstance(duration, int | float)]
    seconds = sum(known) if len(known) == len(work.recordings) else None
    model = "-" if settings.features == "whisper" else None
    rate = Recipe(kind=settings.features, model=model, subsample=settings.every).frames_per_second
    size = None if seconds is None else round(seconds * rate * row_bytes(settings.dtype, width))
    plan = {"recordings": len(work.recordings), "faulty_rows": work.faults.count, "seconds": seconds,
            "frames_per_second": rate, "width": width, "bytes": size,
            "inputs": summarize_recordings(work.recordings), "notes": work.notes}  # fmt: skip
    if as_json:
        return say(json.dumps({"settings": settings.resolved(), **plan}, ensure_ascii=False, indent=4))
    for name, value in settings.resolved().items():
        if value is not None:
            say(f"{name:14} {', '.join(value) if isinstance(value, list) else value}")
    length = "of unknown length" if seconds is None else f"{format_seconds(seconds)} in total"
    say(f"{'would read':14} {len(work.recordings)} recordings, {length}; {work.faults.count} rows cannot be used")
    _print_fields(work)
    about = "" if size is None else f", about {format_bytes(size)}"
    say(f"{'would write':14} {work.folder}: {rate:g} frames per second, width {width}{about}")


def _print_fields(work: extract.ExtractionPlan) -> None:
    """Print how many recordings have which fields, the fields without a use, and notes on the inputs."""
    summary, total = summarize_recordings(work.recordings), len(work.recordings)
    said = ", ".join(f"{summary[f'with_{name}']} with {name}" for name in ("text", "speaker", "split"))
    segments = f", {summary['segments']} of them pieces of a file" if summary["segments"] else ""
    say(f"{'fields':14} of {total} utterances, {said}{segments}")
    if unused := summary["fields_not_used"]:
        say(f"{'not used':14} {', '.join(f'{name} ({count})' for name, count in unused.items())}: stored as they are")
    for note in work.notes:
        say(f"{'note':14} {note}")


def _print_result(
    settings: FeatureSettings, work: extract.ExtractionPlan, outcome: extract.ExtractionResult, as_json: bool
) -> None:
    faults = [*work.faults.first, *(fault for _, fault in outcome.left_out)]
    count = work.faults.count + len(outcome.left_out)
    if as_json:
        report = {"out": str(outcome.folder), "resumed": outcome.resumed, "notes": dict(outcome.notes),
                  "inputs": summarize_recordings(work.recordings), "input_notes": work.notes,
                  "left_out_rows": count, "faults": faults}  # fmt: skip
        return say(json.dumps(report | outcome.index, ensure_ascii=False, indent=4))
    say(_summary_line(outcome.folder, outcome.index))
    _print_fields(work)
    if outcome.resumed:
        say(f"  already done: {outcome.resumed}")
    for note, times in sorted(outcome.notes.items()):
        say(f"  {note}: {times}")
    if count:
        say(f"  left out: {count}")
    for fault in faults[:20]:
        say(f"    {fault}")
    if work.part[1] > 1:
        say(f"next: when all {work.part[1]} parts are in {settings.out}, thunder asr merge {settings.out}")


def _summary_line(folder: Path, index: dict[str, Any]) -> str:
    size = sum(shard["bytes"] for shard in index["shards"])
    return (
        f"{folder}: {index['utterances']} utterances, {format_seconds(index['seconds'])}, {index['frames']} frames of "
        f"{index['width']}, {format_bytes(size)} in {len(index['shards'])} shards, digest {index['checksum'][:16]}"
    )
