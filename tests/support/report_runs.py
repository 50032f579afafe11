"""Folders of runs for tests of their pages, and a page read from one."""

from __future__ import annotations

import json

from conftest import write_rows

from thunder.report.pages import run_page
from thunder.report.run_files import RunFiles

METRICS = [
    {"time": 1, "step": 0, "valid_loss": 3.0, "best_loss": 3.0, "best_step": 0},
    {"time": 2, "step": 5, "loss": 2.5},
    {"time": 3, "step": 5, "valid_loss": 2.0, "best_loss": 2.0, "best_step": 5},
]
TEXTS = [("ߊߋߌ", "ߊߋߌ", "ߊߋ"), ("ߞߊ ߡߊ", "ߞߊ", "ߞߊ ߡߊ"), ("abc", "abd", "abc")]


def a_run(folder, **more):
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text("model: tiny\nseed: 7\n")
    (folder / "environment.json").write_text(json.dumps({"chip": "M4", "versions": {"mlx": "9"}, "commit": "c" * 40}))
    write_rows(folder / "metrics.jsonl", METRICS)
    (folder / "results.json").write_text(json.dumps({"steps": 5, **more}))
    return folder


def adapter_run_folder(tmp_path):
    """A LoRA run: reference, recognised text, the base's answer, the adapter's."""
    rows = [
        {"row_id": f"r{n}", "asr_text": asr, "reference_text": wanted, "prediction_before": asr + "x",
         "prediction_after": after, "flags": ["longer"] if n == 1 else []}
        for n, (wanted, after, asr) in enumerate(TEXTS)
    ]  # fmt: skip
    folder = a_run(tmp_path / "adapter")
    write_rows(folder / "test_predictions.jsonl", rows)
    return folder


def read(folder, gate=None):
    return run_page.read_run_page(RunFiles(folder), gate)


def section(page, name):
    return next(each for each in page.sections if each.name == name)
