"""Makes a store of features from recordings: what cannot be used is collected and named, a killed run goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.acoustic.features import audio, frontend, store_parts
from thunder.acoustic.features.feature_settings import FeatureSettings
from thunder.acoustic.features.recordings import Reader, Recording, input_digest
from thunder.acoustic.features.store_index import Utterance
from thunder.acoustic.features.store_writer import StoreWriter
from thunder.corpora.rows.jsonl_lines import LineFaults
from thunder.errors import CorpusError

_FIX = "mend these, or leave them out with --keep-going"
# called with how many more recordings are done
Progress = Callable[[int], None]


@dataclass
class Work:
    """The recordings of one part, and the faults of rows that are not among them."""

    recordings: list[Recording]
    inputs: str
    part: tuple[int, int]
    folder: Path
    faults: LineFaults


@dataclass
class Outcome:
    """folder: of the store. index: its content. notes: oddities of files read now, counted. left_out: faults, by id.

    resumed: recordings that were done before.
    """

    folder: Path
    index: dict[str, Any]
    resumed: int
    notes: Counter[str] = field(default_factory=Counter)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def plan(settings: FeatureSettings) -> Work:
    """Read the rows; nothing is heard yet. Raises CorpusError with every faulty row, unless they may be left out."""
    part = store_parts.parse(settings.part)
    reader = Reader()
    recordings = reader.read([Path(name).expanduser() for name in settings.inputs])
    if reader.faults and not (settings.keep_going and recordings):
        raise reader.faults.error("recordings cannot be used:", _FIX)
    mine = recordings[part[0] - 1 :: part[1]]
    if not mine:
        raise CorpusError(f"part {settings.part} of {len(recordings)} recordings is empty", "make fewer parts")
    folder = store_parts.folder_of(Path(settings.out).expanduser(), part)
    return Work(mine, input_digest(recordings), part, folder, reader.faults)


def extract(settings: FeatureSettings, work: Work, progress: Progress | None = None) -> Outcome:
    """Make the features of a part, or go on where an earlier run was stopped.

    Raises CorpusError with every recording that cannot be used, after the others are done, unless they may be left out:
    run again, only those are tried again.
    """
    source = frontend.of_settings(settings)
    tell = progress or (lambda count: None)
    notes: Counter[str] = Counter()
    made = {"inputs": work.inputs, "part": list(work.part)}
    with StoreWriter(
        work.folder, source.recipe, source.width, plan=made, shard_bytes=settings.shard_bytes,
        redo_left_out=not settings.keep_going,
    ) as writer:  # fmt: skip
        told = resumed = writer.position
        tell(told)
        while writer.position < len(work.recordings):
            _one(work.recordings[writer.position], source, writer, notes)
            tell(writer.position - told)
            resumed += max(0, writer.position - told - 1)
            told = writer.position
        left_out = writer.left_out
        if left_out and not settings.keep_going:
            writer.close()
            faults = LineFaults()
            for _, fault in left_out:
                faults.add(fault)
            raise faults.error(f"{len(left_out)} of {len(work.recordings)} recordings cannot be used:", _FIX)
        if len(left_out) == len(work.recordings):
            raise CorpusError(f"none of {len(left_out)} recordings can be used: {left_out[0][1]}", "mend them")
        return Outcome(work.folder, writer.finish(), resumed, notes, left_out)


def _one(recording: Recording, source: frontend.FrontEnd, writer: StoreWriter, notes: Counter[str]) -> None:
    """Add one recording to the store, or say why it is left out."""
    try:
        sha256 = _checked_digest(recording)
        sound = audio.load(recording.path)
        long = sound.seconds > audio.WINDOW
        if long and source.recipe.long_audio == "refuse":
            raise CorpusError(
                f"{recording.path}: is {sound.seconds:.1f} s long; Whisper hears 30 s (--long-audio windows cuts it)"
            )
        features = frontend.features_of(source, sound.samples)
        said = recording.text, recording.speaker, recording.split, sha256, recording.extra
        # the length is a count of samples; its last digits are those of a division
        writer.add(Utterance(recording.id, len(features), round(sound.seconds, 6), *said), features)
    except CorpusError as error:
        writer.leave_out(recording.id, error.message)
    else:
        notes.update([*sound.notes, "is longer than 30 s, heard in windows"] if long else sound.notes)


def _checked_digest(recording: Recording) -> str:
    try:
        found = digest.sha256_file(recording.path)
    except OSError as error:
        raise CorpusError(f"{recording.path}: {error.strerror}") from None
    if recording.sha256 and found != recording.sha256:
        raise CorpusError(f"{recording.path}: sha256 is {found[:16]}..., its row says {recording.sha256[:16]}...")
    return found
