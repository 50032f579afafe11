"""Split utterances into training, validation and test once, and store the ids of each part in split.json."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thunder import digest
from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.corpora.splits.split_by_reference import PARTS, part_of_mark, position_of_mark, reference_key, text_mark
from thunder.errors import ArtifactError, CorpusError, combined_error

if TYPE_CHECKING:
    from thunder.acoustic.features.store import Utterance

SCHEMA = "thunder.split/1"
MIN_SPEAKERS = 3  # with fewer, no speaker can be held out for each part
# part names that data sets use
PART_NAMES = {"train": "train", "valid": "valid", "validation": "valid", "dev": "valid", "test": "test"}


@dataclass(frozen=True)
class AcousticSplit:
    """part_by_id: utterance id -> train, valid or test. reasons: how each part was decided, one sentence each."""

    part_by_id: Mapping[str, str]
    reasons: tuple[str, ...]

    def ids(self, part: str) -> list[str]:
        """The ids of a part, sorted."""
        return sorted(name for name, id_part in self.part_by_id.items() if id_part == part)

    def as_json(self, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """split.json: ids with a digest for each part, and the speakers that are in more than one."""
        ids = {part: self.ids(part) for part in PARTS}
        return {
            "schema": SCHEMA,
            "how": list(self.reasons),
            "ids": ids,
            "sha256": {part: digest.sha256_json(ids[part]) for part in PARTS},
            "speakers_in_several_parts": self.speakers_in_several_parts(utterances),
        }

    def speakers_in_several_parts(self, utterances: Sequence[Utterance]) -> list[str]:
        """Known speakers with utterances in more than one part."""
        parts: dict[str, set[str]] = {}
        for utterance in utterances:
            if utterance.speaker and utterance.id in self.part_by_id:
                parts.setdefault(utterance.speaker, set()).add(self.part_by_id[utterance.id])
        return sorted(speaker for speaker, speaker_parts in parts.items() if len(speaker_parts) > 1)


def decide_split(utterances: Sequence[Utterance], settings: AcousticSettings) -> AcousticSplit:
    """Split the utterances by --split; without it, by the options, then the features' own split, then a holdout.

    The holdout never puts a speaker into two parts; parts that the user or the features name are taken as they are.
    Raises CorpusError if an id is not unique, a pattern matches nothing, or no utterance is left to train on.
    """
    _check_unique_ids(utterances)
    if settings.split:
        split = read_split(Path(settings.split), utterances)
    else:
        part_by_id, reasons = _parts_from_options(utterances, settings)
        for utterance in utterances:
            if utterance.id not in part_by_id and utterance.split is not None:
                part_by_id[utterance.id] = _part_from_features(utterance)
                reasons["the features' own split"] = None
        rest = [utterance for utterance in utterances if utterance.id not in part_by_id]
        held_out_parts = [part for part in ("valid", "test") if part not in part_by_id.values()]
        if rest and held_out_parts and settings.holdout:
            held_out, reason = _hold_out(rest, settings.holdout, held_out_parts)
            part_by_id |= held_out
            reasons[reason] = None
        split = AcousticSplit(
            {utterance.id: part_by_id.get(utterance.id, "train") for utterance in utterances}, tuple(reasons)
        )
    if not split.ids("train"):
        raise CorpusError(f"the split leaves none of {len(utterances)} utterances to train on", fix="hold out less")
    return split


def read_split(path: Path, utterances: Sequence[Utterance]) -> AcousticSplit:
    """Read a frozen split and check that it covers exactly these utterances.

    Raises CorpusError if it cannot be read or has other ids, ArtifactError if a digest does not match.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        ids: dict[str, list[str]] = {part: list(content["ids"][part]) for part in PARTS}
        digests = content["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{path}: not a split: {error}", fix="give the split.json of a run") from None
    if changed := [part for part in PARTS if digest.sha256_json(ids[part]) != digests.get(part)]:
        raise ArtifactError(f"{path}: the ids of {', '.join(changed)} were changed", fix="use the run's own split.json")
    part_by_id = {name: part for part in PARTS for name in ids[part]}
    available = {utterance.id for utterance in utterances}
    faults = [f"{name!r} has features but is in no part" for name in sorted(available - part_by_id.keys())]
    faults += [f"{name!r} of {part_by_id[name]} has no features" for name in sorted(part_by_id.keys() - available)]
    if len(part_by_id) != sum(map(len, ids.values())):
        faults.append("an id is in two parts")
    if faults:
        raise combined_error(
            CorpusError, f"{path} does not match these features:", faults, fix="extract features of the same utterances"
        )
    return AcousticSplit(part_by_id, (f"frozen: {path.name}", *content.get("how", ())))


def _parts_from_options(
    utterances: Sequence[Utterance], settings: AcousticSettings
) -> tuple[dict[str, str], dict[str, None]]:
    """The parts that the options name, by id, and the reasons; test takes precedence over validation."""
    part_by_id: dict[str, str] = {}
    faults, reasons = [], {}
    for part in ("valid", "test"):
        for kind in ("speakers", "ids"):
            for pattern in getattr(settings, f"{part}_{kind}"):
                matched = [utterance.id for utterance in utterances if _matches(utterance, kind, pattern)]
                part_by_id |= dict.fromkeys(matched, part)
                reasons[f"{part} {kind} {pattern}"] = None
                if not matched:
                    faults.append(f"--{part}-{kind} {pattern}")
    if faults:
        known = sorted({utterance.speaker for utterance in utterances if utterance.speaker})[:10]
        raise combined_error(
            CorpusError, "no utterance matches:", faults,
            fix=f"known speakers: {', '.join(known) or 'none'}; an id is for example {utterances[0].id!r}",
        )  # fmt: skip
    return part_by_id, reasons


def _matches(utterance: Utterance, kind: str, pattern: str) -> bool:
    return utterance.speaker == pattern if kind == "speakers" else fnmatchcase(utterance.id, pattern)


def _part_from_features(utterance: Utterance) -> str:
    if utterance.split not in PART_NAMES:
        raise CorpusError(
            f"utterance {utterance.id!r}: its split is {utterance.split!r}, expected one of {', '.join(PART_NAMES)}",
            fix="name the parts with --test-ids, --valid-ids or --split",
        )
    return PART_NAMES[utterance.split]


def _hold_out(rest: Sequence[Utterance], share: float, parts: Sequence[str]) -> tuple[dict[str, str], str]:
    """Hold out whole speakers for each part, at least one; by text if speakers are too few or not all known."""
    speakers = {utterance.speaker for utterance in rest}
    if None not in speakers and len(speakers) >= MIN_SPEAKERS:
        order = sorted(speakers, key=lambda name: position_of_mark(text_mark(str(name)), 0))
        count = max(1, round(share * len(order)))
        part_by_speaker = {
            name: part for index, part in enumerate(parts) for name in order[index * count : (index + 1) * count]
        }
        part_by_id = {
            utterance.id: part_by_speaker[utterance.speaker]
            for utterance in rest
            if utterance.speaker in part_by_speaker
        }
        return part_by_id, f"{' and '.join(parts)}: {count} of {len(order)} speakers each, by hash"
    part_by_id = {}
    for utterance in rest:
        part = part_of_mark(text_mark(reference_key(utterance.text or utterance.id)), "acoustic", share, share)
        if part in parts:
            part_by_id[utterance.id] = part
    return part_by_id, f"{' and '.join(parts)}: a share of {share:g} of the texts each, by hash (speakers are too few)"


def _check_unique_ids(utterances: Sequence[Utterance]) -> None:
    duplicates = [name for name, count in Counter(utterance.id for utterance in utterances).items() if count > 1]
    if duplicates:
        raise combined_error(
            CorpusError,
            "ids are not unique:",
            [repr(name) for name in duplicates],
            fix="give each utterance its own id",
        )
