"""A corpus of tones for letters, and a matrix of short trainings on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from thunder.cli.main import main

WORDS = ("bi", "da", "ko", "mu")
COUNT = 40


def recordings(folder: Path) -> None:
    """Each letter a tone of its own, 0.15 s long; 40 utterances of two words."""
    folder.mkdir()
    draw, rows = np.random.default_rng(0), []
    for number in range(COUNT):
        text = " ".join(draw.choice(WORDS, 2))
        beats = [np.sin(np.arange(2400) * (0.05 + 0.012 * (ord(letter) % 27))) for letter in text]
        sound = 0.3 * np.concatenate(beats) + 0.01 * draw.normal(size=2400 * len(text))
        soundfile.write(folder / f"{number:02}.wav", sound.astype(np.float32), 16000)
        rows.append({"audio": f"{number:02}.wav", "id": f"u{number:02}", "text": text})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def matrix_file(folder: Path, seeds: Sequence[int] = (), **more: Any) -> Path:
    """A matrix of {baseline, trajectory} over features that are made here; more: options of its regime."""
    recordings(folder / "audio")
    assert (
        main(["asr", "features", str(folder / "audio"), "--features", "logmel", "--out", str(folder / "features")]) == 0
    )
    ids = [f"u{number:02}" for number in range(COUNT)]
    regime = {"features": [str(folder / "features")], "head": "small", "downsample": 4, "codebook": 8, "iters": 60,
              "batch_size": 4, "steps_per_eval": 10, "steps_per_report": 5, "save_every": 5, "patience": 0,
              "test_ids": ids[:6], "valid_ids": ids[6:16], "holdout": 0.0}  # fmt: skip
    several = {"seeds": list(seeds)} if seeds else {}
    said = {"id": "tones", "regime": regime | more,
            "snapshot": {"name": "tones", "rows": COUNT, "split": {"train": 24, "val": 10, "test": 6}},
            "runs": [{"id": mode, "script": "latin", "mode": mode} | several for mode in ("baseline", "trajectory")],
            "comparisons": [{"name": "t", "a": "baseline", "b": "trajectory", "factor": "mode"}]}  # fmt: skip
    (folder / "m.json").write_text(json.dumps(said))
    return folder / "m.json"
