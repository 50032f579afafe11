"""Runs of `thunder asr train` over toy speech, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import toy_speech
from conftest import REPOSITORY

COMMON = (
    "--script latin --head small --test-speakers s1 --valid-speakers s2 --dropout 0.05 --codebook 16 --batch-size 6 "
    "--learning-rate 3e-3 --steps-per-eval 5 --steps-per-report 1 --save-every 5 --ttt-chunk-size 4 --ranks 1"
).split()


def written(folder: Path, count: int = 24) -> Path:
    """A feature folder of toy speech."""
    from thunder.acoustic.features.recipe import Recipe
    from thunder.acoustic.features.store_index import Utterance
    from thunder.acoustic.features.store_writer import StoreWriter

    with StoreWriter(folder, Recipe(kind="logmel"), toy_speech.WIDTH) as writer:
        for said, features in toy_speech.rows(count):
            values = (said.id, said.frames, said.seconds, said.text, said.speaker, said.split, said.audio_sha256)
            writer.add(Utterance(*values), features)
        writer.finish()
    return folder


def thunder(runs: Path, *words: str, timeout: float = 100) -> subprocess.CompletedProcess:
    environ = os.environ | {"THUNDER_RUNS": str(runs), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "thunder", *words]
    return subprocess.run(
        command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=timeout, check=False
    )
