"""A matrix of real trainings: tones for words, two modes, two local hosts; a driver and a run killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from thunder.cli.main import main
from thunder.config import REPOSITORY
from thunder.runs import bundle, matrix
from thunder.runs.matrix_status import Ledger

WORDS = ("bi", "da", "ko", "mu")


def recordings(folder) -> list[dict]:
    """Each letter a tone of its own, 0.15 s long; 40 utterances of two words."""
    draw, rows = np.random.default_rng(0), []
    for number in range(40):
        text = " ".join(draw.choice(WORDS, 2))
        beats = [np.sin(np.arange(2400) * (0.05 + 0.012 * (ord(letter) % 27))) for letter in text]
        sound = 0.3 * np.concatenate(beats) + 0.01 * draw.normal(size=2400 * len(text))
        soundfile.write(folder / f"{number:02}.wav", sound.astype(np.float32), 16000)
        rows.append({"audio": f"{number:02}.wav", "id": f"u{number:02}", "text": text})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    (tmp_path / "audio").mkdir()
    recordings(tmp_path / "audio")
    made = ["asr", "features", str(tmp_path / "audio"), "--features", "logmel", "--out", str(tmp_path / "features")]
    assert main(made) == 0
    ids = [f"u{number:02}" for number in range(40)]
    regime = {"features": [str(tmp_path / "features")], "head": "small", "downsample": 4, "codebook": 8, "iters": 60,
              "batch_size": 4, "steps_per_eval": 10, "steps_per_report": 5, "save_every": 5, "patience": 0,
              "test_ids": ids[:6], "valid_ids": ids[6:16], "holdout": 0.0}  # fmt: skip
    said = {"id": "tones", "regime": regime,
            "snapshot": {"name": "tones", "rows": 40, "split": {"train": 24, "val": 10, "test": 6}},
            "runs": [{"id": mode, "script": "latin", "mode": mode} for mode in ("baseline", "trajectory")],
            "comparisons": [{"name": "t", "a": "baseline", "b": "trajectory", "factor": "mode"}]}  # fmt: skip
    (tmp_path / "m.json").write_text(json.dumps(said))
    return tmp_path / "m.json"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_real_runs_survive_kill_9(file, tmp_path, capsys):
    command = [sys.executable, "-P", "-m", "thunder", "matrix", "run", str(file), "--cluster", "local"]
    environ = dict(os.environ) | {"PYTHONPATH": str(REPOSITORY)}
    driver = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
    plan = matrix.read(file)
    ledger = Ledger(tmp_path / "runs", plan)
    folders = [ledger.run_folder(cell) for cell in matrix.cells(plan)]
    try:
        until = time.monotonic() + 300
        while not all(any((folder / "checkpoints").glob("step-*")) for folder in folders):
            assert time.monotonic() < until and driver.poll() is None
            time.sleep(0.2)
    finally:
        driver.kill()
        driver.wait()
    os.kill(int((folders[0] / ".lock").read_text()), signal.SIGKILL)
    assert main(["matrix", "resume", str(file), "--cluster", "local"]) == 0
    for folder in folders:
        assert bundle.verified(folder) == [] and bundle.sealed(folder)
        assert main(["memcheck", str(folder)]) == 0
    steps = [
        json.loads(line)["step"] for line in (folders[0] / "metrics.jsonl").read_text().splitlines() if "loss" in line
    ]
    assert steps[-1] == 60 and len(folders) == 2
    assert "as declared" in (ledger.folder / "matrix.md").read_text()
