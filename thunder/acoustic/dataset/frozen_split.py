"""Which utterances are for training, validation and test: decided once, frozen in split.json by id."""

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
FEWEST_SPEAKERS = 3  # with fewer, no speaker could be held out for each part
# what data sets call their parts
NAMES = {"train": "train", "valid": "valid", "validation": "valid", "dev": "valid", "test": "test"}


@dataclass(frozen=True)
class Split:
    """part: utterance id -> train, valid or test. how: who decided, a sentence each."""

    part: Mapping[str, str]
    how: tuple[str, ...]

    def ids(self, part: str) -> list[str]:
        """The ids of a part, sorted."""
        return sorted(name for name, its in self.part.items() if its == part)

    def as_json(self, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """split.json: ids with a digest for each part, and the speakers that are in more than one."""
        ids = {part: self.ids(part) for part in PARTS}
        return {
            "schema": SCHEMA,
            "how": list(self.how),
            "ids": ids,
            "sha256": {part: digest.sha256_json(ids[part]) for part in PARTS},
            "speakers_in_several_parts": self.crossing(utterances),
        }

    def crossing(self, utterances: Sequence[Utterance]) -> list[str]:
        """Known speakers with utterances in more than one part."""
        parts: dict[str, set[str]] = {}
        for one in utterances:
            if one.speaker and one.id in self.part:
                parts.setdefault(one.speaker, set()).add(self.part[one.id])
        return sorted(speaker for speaker, found in parts.items() if len(found) > 1)


def decide(utterances: Sequence[Utterance], settings: AcousticSettings) -> Split:
    """The split of these utterances: that of --split, else what the options name, the features say, and a holdout.

    Speakers do not cross in what is decided here; what the user or the features name is taken as it is.
    Raises CorpusError where an id comes twice, a name matches nothing, or nothing is left to train on.
    """
    _refuse_twins(utterances)
    if settings.split:
        split = read(Path(settings.split), utterances)
    else:
        named, how = _named(utterances, settings)
        for one in utterances:
            if one.id not in named and one.split is not None:
                named[one.id] = _said(one)
                how["the features' own split"] = None
        rest = [one for one in utterances if one.id not in named]
        wanted = [part for part in ("valid", "test") if part not in named.values()]
        if rest and wanted and settings.holdout:
            found, said = _held_out(rest, settings.holdout, wanted)
            named |= found
            how[said] = None
        split = Split({one.id: named.get(one.id, "train") for one in utterances}, tuple(how))
    if not split.ids("train"):
        raise CorpusError(f"the split leaves none of {len(utterances)} utterances to train on", fix="hold out less")
    return split


def read(path: Path, utterances: Sequence[Utterance]) -> Split:
    """A frozen split of exactly these utterances.

    Raises CorpusError where it cannot be read or knows other ids, ArtifactError where a digest does not hold.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        ids: dict[str, list[str]] = {part: list(content["ids"][part]) for part in PARTS}
        sums = content["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{path}: no split: {error}", fix="give the split.json of a run") from None
    if changed := [part for part in PARTS if digest.sha256_json(ids[part]) != sums.get(part)]:
        raise ArtifactError(
            f"{path}: the ids of {', '.join(changed)} were changed", fix="take the run's own split.json"
        )
    part = {name: its for its in PARTS for name in ids[its]}
    mine = {one.id for one in utterances}
    faults = [f"{name!r} has features but is in no part" for name in sorted(mine - part.keys())]
    faults += [f"{name!r} of {part[name]} has no features" for name in sorted(part.keys() - mine)]
    if len(part) != sum(map(len, ids.values())):
        faults.append("an id is in two parts")
    if faults:
        raise combined_error(
            CorpusError, f"{path} is not of these features:", faults, fix="extract the same utterances"
        )
    return Split(part, (f"frozen: {path.name}", *content.get("how", ())))


def _named(utterances: Sequence[Utterance], settings: AcousticSettings) -> tuple[dict[str, str], dict[str, None]]:
    """What the options name; the test wins over validation."""
    named: dict[str, str] = {}
    faults, how = [], {}
    for part in ("valid", "test"):
        for kind in ("speakers", "ids"):
            for pattern in getattr(settings, f"{part}_{kind}"):
                found = [one.id for one in utterances if _is(one, kind, pattern)]
                named |= dict.fromkeys(found, part)
                how[f"{part} {kind} {pattern}"] = None
                if not found:
                    faults.append(f"--{part}-{kind} {pattern}")
    if faults:
        known = sorted({one.speaker for one in utterances if one.speaker})[:10]
        raise combined_error(
            CorpusError, "no utterance is meant by:", faults,
            fix=f"speakers are {', '.join(known) or 'not known'}; ids are like {utterances[0].id!r}",
        )  # fmt: skip
    return named, how


def _is(one: Utterance, kind: str, pattern: str) -> bool:
    return one.speaker == pattern if kind == "speakers" else fnmatchcase(one.id, pattern)


def _said(one: Utterance) -> str:
    if one.split not in NAMES:
        raise CorpusError(
            f"utterance {one.id!r}: its split is {one.split!r}, known are {', '.join(NAMES)}",
            fix="name the parts with --test-ids, --valid-ids or --split",
        )
    return NAMES[one.split]


def _held_out(rest: Sequence[Utterance], share: float, wanted: Sequence[str]) -> tuple[dict[str, str], str]:
    """Whole speakers for each wanted part, at least one; by text where speakers are too few or not all known."""
    speakers = {one.speaker for one in rest}
    if None not in speakers and len(speakers) >= FEWEST_SPEAKERS:
        order = sorted(speakers, key=lambda name: position_of_mark(text_mark(str(name)), 0))
        count = max(1, round(share * len(order)))
        chosen = {name: part for at, part in enumerate(wanted) for name in order[at * count : (at + 1) * count]}
        found = {one.id: chosen[one.speaker] for one in rest if one.speaker in chosen}
        return found, f"{' and '.join(wanted)}: {count} of {len(order)} speakers each, by hash"
    found = {}
    for one in rest:
        part = part_of_mark(text_mark(reference_key(one.text or one.id)), "acoustic", share, share)
        if part in wanted:
            found[one.id] = part
    return found, f"{' and '.join(wanted)}: a share of {share:g} of the texts each, by hash (speakers are too few)"


def _refuse_twins(utterances: Sequence[Utterance]) -> None:
    twins = [name for name, count in Counter(one.id for one in utterances).items() if count > 1]
    if twins:
        raise combined_error(
            CorpusError, "ids come more than once:", [repr(name) for name in twins], fix="give each its own"
        )
