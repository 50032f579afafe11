"""The dataset of an acoustic run: utterances with labels, by part, and the ids of excluded utterances."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thunder import digest
from thunder.acoustic import labels as spelling
from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.dataset import frozen_split as splitting
from thunder.acoustic.manifests.text_table import TextTable, read_text_table
from thunder.corpora.splits.split_by_reference import PARTS
from thunder.errors import ArtifactError, CorpusError, UsageError

if TYPE_CHECKING:
    from thunder.acoustic.features.store import FeatureStore, Utterance

MAX_NAMED = 20  # of the left-out rows, the number whose ids the results list
NO_TEXT, TOO_LONG, NO_ROOM = "without a text", "longer than --max-seq-length", "more labels than frames"


@dataclass(frozen=True)
class AcousticExample:
    """One utterance: its place in the feature stores, T frames, U labels and the text (NFC) that they spell."""

    id: str
    store: int
    position: int
    frames: int
    labels: tuple[int, ...]
    text: str
    audio_id: str | None = None
    synthetic: bool = False


class FeatureSource(Protocol):
    """Anything that returns the features of an utterance."""

    def features_of(self, example: AcousticExample) -> np.ndarray:
        """[T, D] float32."""
        ...


@dataclass(frozen=True)
class FeatureSet:
    """Several feature folders of one recipe, used as one dataset. texts: the table that gave their texts."""

    stores: tuple[FeatureStore, ...]
    texts: TextTable | None = field(default=None, kw_only=True)

    @property
    def width(self) -> int:
        """Width D of the features."""
        return self.stores[0].width

    def features_of(self, example: AcousticExample) -> np.ndarray:
        """[T, D] float32."""
        return self.stores[example.store].features(example.position)

    def digest(self) -> str:
        """Digest that identifies the data."""
        return digest.sha256_json([store.digest for store in self.stores])


@dataclass(frozen=True)
class AcousticDataset:
    """Parts of a run. left_out: reason -> ids of utterances that are in no part.

    too_many_labels: ids of test utterances with more labels than frames; they stay in the test and cannot be right.
    """

    features: FeatureSet
    split: splitting.AcousticSplit
    train: tuple[AcousticExample, ...]
    valid: tuple[AcousticExample, ...]
    test: tuple[AcousticExample, ...]
    left_out: Mapping[str, tuple[str, ...]]
    too_many_labels: tuple[str, ...]
    split_json: Mapping[str, Any]

    def digest(self) -> str:
        """Digest that all ranks must agree on: features, labels and split."""
        rows = [[part, example.id, list(example.labels)] for part in PARTS for example in getattr(self, part)]
        return digest.sha256_json([self.features.digest(), rows])

    def summary(self) -> dict[str, Any]:
        """Counts for the plan and the results."""
        parts = {part: getattr(self, part) for part in PARTS}
        return {
            **{f"{part}_rows": len(rows) for part, rows in parts.items()},
            **{f"{part}_labels": sum(len(example.labels) for example in rows) for part, rows in parts.items()},
            "split": list(self.split.reasons),
            **({"texts": self.features.texts.summary()} if self.features.texts else {}),
            "speakers_in_several_parts": self.split_json["speakers_in_several_parts"],
            "left_out": {
                reason: {"rows": len(ids), "ids": list(ids[:MAX_NAMED])} for reason, ids in self.left_out.items()
            },
            "test_rows_without_room": {
                "rows": len(self.too_many_labels),
                "ids": list(self.too_many_labels[:MAX_NAMED]),
            },
        }


def open_features(folders: Sequence[str], texts: str | None = None) -> FeatureSet:
    """Open feature folders. texts: a table whose texts take the place of the stored ones, by id.

    Raises ArtifactError if one is damaged, or has another recipe or width than the first; CorpusError if the table has
    faults or none of its ids.
    """
    from thunder.acoustic.features.store import FeatureStore

    stores = tuple(FeatureStore.open(Path(folder).expanduser()) for folder in folders)
    for folder, store in zip(folders[1:], stores[1:], strict=True):
        store.require(stores[0].recipe_digest, str(folders[0]), stores[0].recipe)
        if store.width != stores[0].width:
            raise ArtifactError(
                f"{folder}: width {store.width}, expected {stores[0].width} as in {folders[0]}",
                fix="use one recipe for all folders",
            )
    return FeatureSet(stores, texts=_join_texts(stores, Path(texts).expanduser()) if texts else None)


def _join_texts(stores: Sequence[FeatureStore], path: Path) -> TextTable:
    """Put the texts of a table into the stores' utterances; the files stay as they are."""
    table = read_text_table(path, [utterance.id for store in stores for utterance in store.utterances])
    for store in stores:
        joined = []
        for utterance in store.utterances:
            if texts := table.texts.get(utterance.id):
                text, extra = texts.apply(utterance.text, dict(utterance.extra))
                utterance = replace(utterance, text=text, extra=extra)
            joined.append(utterance)
        store.utterances = tuple(joined)
    return table


def prepare_dataset(settings: AcousticSettings, features: FeatureSet) -> AcousticDataset:
    """Labels and parts of all utterances.

    Utterances without a text or too long are left out and listed; so are utterances of training and validation with
    more labels than frames. Raises CorpusError that lists every row with characters without a label, or if no utterance
    is left to train on; UsageError if `warp` is set for features without a frequency axis.
    """
    if settings.warp and features.stores[0].recipe.kind != "logmel":
        raise UsageError(
            f"--warp {settings.warp:g} warps the frequency axis, but features of kind "
            f"{features.stores[0].recipe.kind} have none", fix="omit --warp",
        )  # fmt: skip
    all_utterances = [example for store in features.stores for example in store.utterances]
    split = splitting.decide_split(all_utterances, settings)
    parts: dict[str, list[AcousticExample]] = {part: [] for part in PARTS}
    left_out: dict[str, list[str]] = {NO_TEXT: [], TOO_LONG: [], NO_ROOM: []}
    too_many_labels = []
    for example in label_utterances(settings, features):
        part, available_frames = split.part_by_id[example.id], -(-example.frames // settings.downsample)
        too_short = spelling.frames_needed(example.labels) > available_frames
        if not example.labels:
            left_out[NO_TEXT].append(example.id)
        elif example.frames > settings.max_seq_length:
            left_out[TOO_LONG].append(example.id)
        elif too_short and part != "test":
            left_out[NO_ROOM].append(example.id)
        else:
            parts[part].append(example)
            too_many_labels += [example.id] if too_short else []
    if not parts["train"]:
        counts = ", ".join(f"{len(ids)} {reason}" for reason, ids in left_out.items())
        raise CorpusError(f"no utterance is left to train on: {counts}", fix="check the texts of the features")
    return AcousticDataset(
        features, split, *(tuple(parts[part]) for part in PARTS),
        left_out={reason: tuple(ids) for reason, ids in left_out.items()},
        too_many_labels=tuple(too_many_labels), split_json=split.as_json(all_utterances),
    )  # fmt: skip


def label_utterances(settings: AcousticSettings, features: FeatureSet) -> list[AcousticExample]:
    """Every utterance with its labels, in store order; no labels if it has no text.

    Raises CorpusError that lists every row with characters without a label.
    """
    targets: list[tuple[int, int, Utterance, str]] = []
    for store_index, store in enumerate(features.stores):
        for position, utterance in enumerate(store.utterances):
            text = (
                spelling.target_text(utterance.text, utterance.extra, settings.script, settings.drop)
                if utterance.text
                else ""
            )
            targets.append((store_index, position, utterance, text))
    spelling.check_characters({utterance.id: text for _, _, utterance, text in targets}, settings.script)
    return [
        AcousticExample(
            utterance.id,
            store_index,
            position,
            utterance.frames,
            tuple(spelling.encode_labels(text, settings.script)),
            text,
            utterance.audio_sha256,
            bool(utterance.extra.get("synthetic")),
        )  # fmt: skip
        for store_index, position, utterance, text in targets
    ]


def select_by_hash(examples: Sequence[AcousticExample], count: int) -> list[AcousticExample]:
    """At most `count` examples, selected by the digest of their ids, in their original order."""
    ranked = sorted(examples, key=lambda example: hashlib.sha256(example.id.encode()).digest())[:count]
    selected = {example.id for example in ranked}
    return [example for example in examples if example.id in selected]
