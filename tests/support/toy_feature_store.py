"""A feature folder of toy speech on disk, for tests."""

from __future__ import annotations

from pathlib import Path

import toy_speech

from thunder.acoustic.features.recipe import Recipe
from thunder.acoustic.features.store_index import Utterance
from thunder.acoustic.features.store_writer import StoreWriter


def write_feature_store(folder: Path, count: int = 24) -> Path:
    """Utterances of four speakers, s0 to s3, in turn."""
    with StoreWriter(folder, Recipe(kind="logmel"), toy_speech.WIDTH) as writer:
        for said, features in toy_speech.rows(count):
            values = (said.id, said.frames, said.seconds, said.text, said.speaker, said.split, said.audio_sha256)
            writer.add(Utterance(*values), features)
        writer.finish()
    return folder


RECOGNIZER_OPTIONS = {
    "script": "latin", "head": "small", "test_speakers": ["s1"], "valid_speakers": ["s2"], "codebook": 16,
    "batch_size": 6, "learning_rate": 3e-3, "steps_per_eval": 2, "steps_per_report": 1, "save_every": 2, "ranks": 1,
}  # fmt: skip
