"""Extract features from recordings into a store; report unusable recordings, resume after an interruption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.acoustic.features import audio, frontend, store_parts
from thunder.acoustic.features.feature_settings import FeatureSettings
from thunder.acoustic.features.recordings import Recording, RecordingReader, input_digest, load_recording
from thunder.acoustic.features.store_index import Utterance
from thunder.acoustic.features.store_writer import StoreWriter, planned_model
from thunder.acoustic.manifests.text_table import TextTable, read_text_table
from thunder.acoustic.sound_files.sound_fault import in_one_line
from thunder.corpora.rows.jsonl_lines import LineFaults
from thunder.errors import CorpusError

_FIX = "repair these, or exclude them with --keep-going"
# called with the number of recordings that were finished since the last call
OnRecordings = Callable[[int], None]


@dataclass
class ExtractionPlan:
    """The recordings of one part, the faults of rows that were left out, and notes on the inputs."""

    recordings: list[Recording]
    inputs: str
    part: tuple[int, int]
    folder: Path
    faults: LineFaults
    notes: list[str] = field(default_factory=list)


@dataclass
class ExtractionResult:
    """folder: the store. index: its content. notes: unusual properties of files read now, counted.

    left_out: (id, fault). resumed: number of recordings that an earlier run had finished.
    """

    folder: Path
    index: dict[str, Any]
    resumed: int
    notes: Counter[str] = field(default_factory=Counter)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def plan_extraction(settings: FeatureSettings) -> ExtractionPlan:
    """Read the rows but not the audio. Raises CorpusError that lists every faulty row, unless `keep_going` is set."""
    part = store_parts.parse_part(settings.part)
    reader = RecordingReader()
    recordings = reader.read([Path(name).expanduser() for name in settings.inputs])
    if reader.faults and not (settings.keep_going and recordings):
        raise reader.faults.error("recordings cannot be used:", _FIX)
    notes = list(reader.notes)
    if settings.texts:
        recordings, table = _join_texts(recordings, Path(settings.texts).expanduser())
        notes += table.messages()
    part_recordings = recordings[part[0] - 1 :: part[1]]
    if not part_recordings:
        raise CorpusError(f"part {settings.part} of {len(recordings)} recordings is empty", "use fewer parts")
    folder = store_parts.part_folder(Path(settings.out).expanduser(), part)
    return ExtractionPlan(part_recordings, input_digest(recordings), part, folder, reader.faults, notes)


def _join_texts(recordings: list[Recording], path: Path) -> tuple[list[Recording], TextTable]:
    """The recordings with the texts of a table. Raises CorpusError if it has faults, or none of the ids."""
    table, joined = read_text_table(path, [recording.id for recording in recordings]), []
    for recording in recordings:
        if texts := table.texts.get(recording.id):
            text, extra = texts.apply(recording.text, recording.extra)
            recording = replace(recording, text=text, extra=extra)
        joined.append(recording)
    return joined, table


def extract_features(
    settings: FeatureSettings, plan: ExtractionPlan, progress: OnRecordings | None = None
) -> ExtractionResult:
    """Extract the features of a part, or resume an interrupted extraction.

    Raises CorpusError that lists every unusable recording after all others are done, unless `keep_going` is set; the
    next run tries only those recordings again.
    """
    front_end = frontend.build_front_end(settings)
    front_end.adopt_model_digest(planned_model(plan.folder))
    report = progress or (lambda count: None)
    notes: Counter[str] = Counter()
    input_plan: dict[str, Any] = {"inputs": plan.inputs, "part": list(plan.part)}
    if settings.channel is not None:
        input_plan["channel"] = settings.channel
    with StoreWriter(
        plan.folder, front_end.recipe, front_end.width, plan=input_plan, shard_bytes=settings.shard_bytes,
        redo_left_out=not settings.keep_going,
    ) as writer:  # fmt: skip
        reported = resumed = writer.position
        report(reported)
        while writer.position < len(plan.recordings):
            _add_recording(plan.recordings[writer.position], front_end, writer, notes, settings.channel)
            report(writer.position - reported)
            resumed += max(0, writer.position - reported - 1)
            reported = writer.position
        left_out = writer.left_out
        if left_out and not settings.keep_going:
            writer.close()
            faults = LineFaults()
            for _, fault in left_out:
                faults.add(fault)
            raise faults.error(f"{len(left_out)} of {len(plan.recordings)} recordings cannot be used:", _FIX)
        if len(left_out) == len(plan.recordings):
            raise CorpusError(f"none of {len(left_out)} recordings can be used: {left_out[0][1]}", "repair the files")
        return ExtractionResult(plan.folder, writer.finish(), resumed, notes, left_out)


def _add_recording(
    recording: Recording, front_end: frontend.FrontEnd, writer: StoreWriter, notes: Counter[str], channel: int | None
) -> None:
    """Add one recording to the store, or record why it is left out. channel: the one to use."""
    try:
        sha256 = _verified_digest(recording)
        samples = load_recording(recording, channel)
        is_long = samples.seconds > audio.WINDOW_SECONDS
        if is_long and front_end.recipe.long_audio == "refuse":
            raise CorpusError(
                f"{recording.path}: is {samples.seconds:.1f} s long; Whisper takes 30 s (--long-audio windows splits)"
            )
        features = frontend.extract_frames(front_end, samples.samples)
        metadata = recording.text, recording.speaker, recording.split, sha256, recording.extra
        # rounded: the last digits are an artifact of dividing the sample count
        writer.add(Utterance(recording.id, len(features), round(samples.seconds, 6), *metadata), features)
    except CorpusError as error:
        writer.leave_out(recording.id, in_one_line(error))
    else:
        notes.update([*samples.notes, "is longer than 30 s, split into windows"] if is_long else samples.notes)


@lru_cache(maxsize=1)
def _file_digest(path: str, size: int, modified: int) -> str:
    """SHA-256 of a file; the segments of one recording follow each other."""
    return digest.sha256_file(Path(path))


def _verified_digest(recording: Recording) -> str:
    try:
        sha256 = _file_digest(str(recording.path), (state := recording.path.stat()).st_size, state.st_mtime_ns)
    except OSError as error:
        raise CorpusError(f"{recording.path}: {error.strerror}") from None
    if recording.sha256 and sha256 != recording.sha256:
        raise CorpusError(f"{recording.path}: sha256 is {sha256[:16]}..., its row says {recording.sha256[:16]}...")
    return sha256
