"""Speech that is easy to tell apart: each character is some frames of its own vector, with noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.features.store_index import Utterance

WIDTH = 12
WORDS = "one two three four five six seven eight nine zero".split()


@dataclass(frozen=True)
class ToyRecipe:
    kind: str = "logmel"

    def resolved(self) -> dict[str, Any]:
        return {"kind": self.kind, "subsample": 1, "how": "mean"}


class MemoryStore:
    """As thunder.acoustic.features.store.FeatureStore, without a disk."""

    def __init__(self, rows: list[tuple[Utterance, np.ndarray]], digest: str = "toy", kind: str = "logmel") -> None:
        self.utterances = tuple(said for said, _ in rows)
        self.rows = [features for _, features in rows]
        self.width, self.digest, self.recipe_digest, self.recipe = WIDTH, digest, "r" * 64, ToyRecipe(kind)

    def __len__(self) -> int:
        return len(self.rows)

    def features(self, position: int) -> np.ndarray:
        return self.rows[position]


def spoken(text: str, draw: np.random.Generator, noise: float = 0.3) -> np.ndarray:
    """[T, WIDTH] float32."""
    pieces = []
    for character in text:
        sound = np.random.default_rng(ord(character)).standard_normal(WIDTH)
        pieces += [sound] * int(draw.integers(2, 5)) + [np.zeros(WIDTH)]
    return (np.array(pieces) + noise * draw.standard_normal((len(pieces), WIDTH))).astype(np.float32)


def rows(count: int, seed: int = 0, speakers: int = 4, **said: Any) -> list[tuple[Utterance, np.ndarray]]:
    """Utterances u0, u1, ... of one word each, speakers s0, s1, ... in turn."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(count):
        text = WORDS[number % len(WORDS)]
        features = spoken(text, draw)
        given = {"text": text, "speaker": f"s{number % speakers}", "audio_sha256": f"{number:064d}"} | said
        found.append((Utterance(f"u{number}", len(features), len(features) / 100, **given), features))
    return found


def settings(**changes: Any) -> AcousticSettings:
    """A small head without chance, unless a change asks for it."""
    quiet = {
        "features": ["toy"], "script": "latin", "head": "small", "dropout": 0.0, "codebook": 16, "batch_size": 4,
        "iters": 12, "warmup": 10, "test_speakers": ["s1"], "valid_speakers": ["s2"], "ttt_head_dim": 16,
        "ttt_chunk_size": 4,
    }  # fmt: skip
    return AcousticSettings(**(quiet | changes))


def dataset(count: int = 24, **changes: Any):
    """(settings, parts, tables) of toy utterances."""
    from thunder.acoustic.dataset import utterances
    from thunder.acoustic.trajectory import training_statistics

    chosen = settings(**changes)
    parts = utterances.prepare_dataset(chosen, utterances.FeatureSet((MemoryStore(rows(count)),)))
    return chosen, parts, training_statistics.fit_statistics(chosen, parts.features, parts.train)


def task(count: int = 24, **changes: Any):
    """A task over toy utterances."""
    from thunder.acoustic.training.ctc_task import AcousticTask

    return AcousticTask(*dataset(count, **changes))
