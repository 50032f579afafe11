"""What a run trains and tests on: utterances of feature folders with their labels, in parts, and what was left out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thunder import digest
from thunder.acoustic import labels as spelling
from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.dataset import frozen_split as splitting
from thunder.corpora.splits.split_by_reference import PARTS
from thunder.errors import ArtifactError, CorpusError, UsageError

if TYPE_CHECKING:
    from thunder.acoustic.features.store import FeatureStore, Utterance

NAMED = 20  # how many of the rows that were left out are named in the results
NO_TEXT, TOO_LONG, NO_ROOM = "without a text", "longer than --max-seq-length", "more labels than frames"


@dataclass(frozen=True)
class Example:
    """One utterance: where its features are, T frames, U labels and the text (NFC) that they spell."""

    id: str
    store: int
    position: int
    frames: int
    labels: tuple[int, ...]
    text: str
    audio_id: str | None = None
    synthetic: bool = False


class Frames(Protocol):
    """Whatever has the features of utterances."""

    def of(self, example: Example) -> np.ndarray:
        """[T, D] float32."""
        ...


@dataclass(frozen=True)
class Features:
    """Feature folders of one recipe, as one."""

    stores: tuple[FeatureStore, ...]

    @property
    def width(self) -> int:
        """D."""
        return self.stores[0].width

    def of(self, example: Example) -> np.ndarray:
        """[T, D] float32."""
        return self.stores[example.store].features(example.position)

    def digest(self) -> str:
        """Identity of the data."""
        return digest.sha256_json([store.digest for store in self.stores])


@dataclass(frozen=True)
class Prepared:
    """Parts of a run; `left_out` names, for each reason, the ids that are in no part (of training and validation).

    crowded: ids of the test whose labels have no room in their frames; they stay, and cannot be right.
    """

    features: Features
    split: splitting.Split
    train: tuple[Example, ...]
    valid: tuple[Example, ...]
    test: tuple[Example, ...]
    left_out: Mapping[str, tuple[str, ...]]
    crowded: tuple[str, ...]
    split_json: Mapping[str, Any]

    def digest(self) -> str:
        """What all ranks must agree on: features, labels and split."""
        rows = [[part, one.id, list(one.labels)] for part in PARTS for one in getattr(self, part)]
        return digest.sha256_json([self.features.digest(), rows])

    def summary(self) -> dict[str, Any]:
        """Counts for the plan and the results."""
        parts = {part: getattr(self, part) for part in PARTS}
        return {
            **{f"{part}_rows": len(rows) for part, rows in parts.items()},
            **{f"{part}_labels": sum(len(one.labels) for one in rows) for part, rows in parts.items()},
            "split": list(self.split.how),
            "speakers_in_several_parts": self.split_json["speakers_in_several_parts"],
            "left_out": {why: {"rows": len(ids), "ids": list(ids[:NAMED])} for why, ids in self.left_out.items()},
            "test_rows_without_room": {"rows": len(self.crowded), "ids": list(self.crowded[:NAMED])},
        }


def open_features(folders: Sequence[str]) -> Features:
    """Open feature folders.

    Raises ArtifactError where one is damaged or of another recipe than the first.
    """
    from thunder.acoustic.features.store import FeatureStore

    stores = tuple(FeatureStore.open(Path(folder).expanduser()) for folder in folders)
    for folder, store in zip(folders[1:], stores[1:], strict=True):
        store.require(stores[0].recipe_digest, str(folders[0]))
        if store.width != stores[0].width:
            raise ArtifactError(
                f"{folder}: width {store.width}, not {stores[0].width} as {folders[0]}", fix="one recipe for all"
            )
    return Features(stores)


def prepare(settings: AcousticSettings, features: Features) -> Prepared:
    """Labels and parts of all utterances.

    An utterance without a text, too long, or (in training and validation) with more labels than frames is left out and
    named. Raises CorpusError naming every row with characters that have no label, or where nothing is left to train on.
    """
    if settings.warp and features.stores[0].recipe.kind != "logmel":
        raise UsageError(
            f"--warp {settings.warp:g} bends the frequency axis, and features of kind "
            f"{features.stores[0].recipe.kind} have none", fix="leave --warp out",
        )  # fmt: skip
    everything = [one for store in features.stores for one in store.utterances]
    split = splitting.decide(everything, settings)
    parts: dict[str, list[Example]] = {part: [] for part in PARTS}
    left_out: dict[str, list[str]] = {NO_TEXT: [], TOO_LONG: [], NO_ROOM: []}
    crowded = []
    for one in examples(settings, features):
        part, room = split.part[one.id], -(-one.frames // settings.downsample)
        no_room = spelling.frames_needed(one.labels) > room
        if not one.labels:
            left_out[NO_TEXT].append(one.id)
        elif one.frames > settings.max_seq_length:
            left_out[TOO_LONG].append(one.id)
        elif no_room and part != "test":
            left_out[NO_ROOM].append(one.id)
        else:
            parts[part].append(one)
            crowded += [one.id] if no_room else []
    if not parts["train"]:
        counts = ", ".join(f"{len(ids)} {why}" for why, ids in left_out.items())
        raise CorpusError(f"no utterance is left to train on: {counts}", fix="look at the features' texts")
    return Prepared(
        features, split, *(tuple(parts[part]) for part in PARTS),
        left_out={why: tuple(ids) for why, ids in left_out.items()},
        crowded=tuple(crowded), split_json=split.as_json(everything),
    )  # fmt: skip


def examples(settings: AcousticSettings, features: Features) -> list[Example]:
    """Every utterance with its labels; empty ones where it has no text.

    Raises CorpusError naming every row with characters that have no label.
    """
    found: list[tuple[int, int, Utterance, str]] = []
    for number, store in enumerate(features.stores):
        for position, one in enumerate(store.utterances):
            text = spelling.target(one.text, one.extra, settings.script, settings.drop) if one.text else ""
            found.append((number, position, one, text))
    spelling.refuse_strangers({one.id: text for _, _, one, text in found}, settings.script)
    return [
        Example(
            one.id,
            number,
            position,
            one.frames,
            tuple(spelling.encode(text, settings.script)),
            text,
            one.audio_sha256,
            bool(one.extra.get("synthetic")),
        )  # fmt: skip
        for number, position, one, text in found
    ]


def chosen(found: Sequence[Example], count: int) -> list[Example]:
    """At most `count` of them, by the digest of their ids, in their own order."""
    ranked = sorted(found, key=lambda one: hashlib.sha256(one.id.encode()).digest())[:count]
    kept = {one.id for one in ranked}
    return [one for one in found if one.id in kept]
