"""Five short sounds with a text each, and a head with first weights over their log-mel features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.dataset import utterances
from thunder.acoustic.head import head_file
from thunder.acoustic.training.ctc_task import AcousticTask
from thunder.acoustic.trajectory import training_statistics
from thunder.cli import main as cli

WORDS = {"a": "one", "b": "two", "c": "three", "d": "four", "e": "five"}
NKO_WORDS = {"a": "ߞߋߟߋ߲", "b": "ߝߌߟߊ", "c": "ߛߊߓߊ", "d": "ߣߊߣߌ", "e": "ߟߏߟߎ"}


def write_sounds(folder: Path, words: dict[str, str]) -> Path:
    """Chords in noise, of other lengths, and their metadata.jsonl."""
    draw, lines = np.random.default_rng(1), []
    for number, (name, text) in enumerate(words.items()):
        time = np.arange(9000 + 3000 * number) / 16000
        tones = sum(np.sin(2 * np.pi * pitch * (1 + number) * time) for pitch in (220, 330, 605))
        soundfile.write(folder / f"{name}.flac", 0.1 * tones + 0.05 * draw.standard_normal(len(time)), 16000)
        lines.append(json.dumps({"audio": f"{name}.flac", "text": text, "speaker": f"s{number}"}) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def write_head(folder: Path, sounds: Path, script: str, dtype: str = "fp16") -> tuple[Path, Path]:
    """Make features and a head in a folder; returns (checkpoint, features)."""
    features = folder / "logmel"
    make = ["asr", "features", str(sounds), "--features", "logmel", "--n-mels", "24", "--dtype", dtype]
    assert cli.main([*make, "--subsample", "2", "--subsample-how", "mean", "--out", str(features)]) == 0
    settings = AcousticSettings(
        features=[str(features)], script=script, head="small", mode="trajectory+ttt", codebook=4, holdout=0.2
    )
    prepared = utterances.prepare_dataset(settings, utterances.open_features(settings.features))
    made = AcousticTask(
        settings, prepared, training_statistics.fit_statistics(settings, prepared.features, prepared.train)
    )
    made.save(folder / "run")
    return folder / "run" / head_file.HEAD_FILE, features
