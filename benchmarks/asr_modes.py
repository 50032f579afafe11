"""Train all modes of the acoustic head on the same utterances with the same seeds and print a table of error rates.

    thunder asr features RECORDINGS/metadata.jsonl --features logmel --n-mels 40 --out digits
    OPENBLAS_NUM_THREADS=1 .venv/bin/python -m benchmarks.asr_modes --features digits --test-speakers yweweler \
        --test-ids '*_35*' [--modes baseline tar] [--seeds 42 43 44] [--iters 400] \
        [--batch-size 16] [--out rows.jsonl]

Each mode trains with the options of configs/runs/asr-digits-modes.yaml, without validation, and is tested after its
last step. Rows are appended to --out; a mode and seed that already have a row are not trained again. The table shows
all rows of the file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.dataset import utterances
from thunder.acoustic.inference import result_files
from thunder.acoustic.inference.recognizer import Recognizer
from thunder.acoustic.training.ctc_task import AcousticTask
from thunder.acoustic.trajectory import training_statistics
from thunder.config import CONFIGS, SettingsLayer, build_settings, load_yaml
from thunder.parallel import row_order as order
from thunder.parallel.world import World
from thunder.training.step import make_optimizer, make_step

# mode name in the table -> options
MODES: dict[str, dict[str, Any]] = {
    "baseline": {},
    "trajectory": {"mode": "trajectory"},
    "trajectory-shuffled": {"mode": "trajectory", "control": "shuffled"},
    "trajectory (attn-bias)": {"mode": "trajectory", "conditioning": "attn-bias"},
    "tar": {"mode": "tar"},
    "cr": {"mode": "cr"},
    "ttt": {"mode": "ttt"},
    "trajectory+ttt": {"mode": "trajectory+ttt"},
}


def measure_mode(name: str, seed: int, given: dict[str, Any]) -> dict[str, Any]:
    """Train one mode with one seed; return its error rates, final loss and CPU seconds of training."""
    config = CONFIGS / "runs" / "asr-digits-modes.yaml"
    layers = [
        SettingsLayer(config.name, load_yaml(config)),
        SettingsLayer("benchmark", given | MODES[name] | {"seed": seed}),
    ]
    settings, _ = build_settings(AcousticSettings, layers)
    prepared = utterances.prepare_dataset(settings, utterances.open_features(settings.features))
    task = AcousticTask(
        settings, prepared, training_statistics.fit_statistics(settings, prepared.features, prepared.train)
    )
    step = make_step(task, make_optimizer(settings), settings, World())
    start = time.process_time()
    for plan in order.plan_steps(
        task.rows, settings.batch_size, seed, until=settings.total_updates, lengths=task.lengths
    ):
        loss = step(plan, False).loss
    seconds = time.process_time() - start
    recognizer = Recognizer(task.model, task.statistics, settings)
    row_fields = {"part": "test", "script": settings.script, "mode": settings.mode_name, "run_id": ""}
    recognized = recognizer.recognize(prepared.features, prepared.test, settings.batch_size)
    rows = [result_files.correction_row(example, values, **row_fields) for example, values in recognized]
    unseen = set(settings.test_speakers)
    speaker = {utterance.id: utterance.speaker for store in prepared.features.stores for utterance in store.utterances}
    parts = {"unseen speaker": True, "unseen take": False}
    rows_by_part = {
        part: [row for row in rows if (speaker[row["feat_id"]] in unseen) == new] for part, new in parts.items()
    }
    rates = {
        part: result_files.summarize_results(part_rows)["cer"] for part, part_rows in rows_by_part.items() if part_rows
    }
    summary = result_files.summarize_results(rows)
    selected = {key: summary[key] for key in ("cer", "wer", "rows", "ttt") if key in summary}
    return {
        "mode": name, "seed": seed, "iters": settings.iters, "train_rows": task.rows, "loss": loss,
        "cpu_seconds": seconds, **selected, **rates,
    }  # fmt: skip


def markdown_table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown table: for each mode, the mean over seeds and the CER of each seed."""
    lines = [
        "| mode | CER, mean | seeds | unseen speaker | unseen takes | CPU s |",
        "|---|--:|---|--:|--:|--:|",
    ]
    for name in MODES:
        mode_rows = sorted((row for row in rows if row["mode"] == name), key=lambda row: row["seed"])
        if mode_rows:
            means = [np.mean([row.get(key, np.nan) for row in mode_rows]) for key in ("cer", *_PARTS, "cpu_seconds")]
            seeds = ", ".join(f"{row['cer']:.3f}" for row in mode_rows)
            lines.append(f"| {name} | {means[0]:.3f} | {seeds} | {means[1]:.3f} | {means[2]:.3f} | {means[3]:.0f} |")
    return "\n".join(lines)


_PARTS = ("unseen speaker", "unseen take")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the modes and seeds that have no row yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", nargs="+", required=True)
    parser.add_argument("--test-speakers", nargs="*", default=[])
    parser.add_argument("--test-ids", nargs="*", default=[])
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--iters", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("asr_modes.jsonl"))
    options = vars(parser.parse_args(arguments))
    out, modes, seeds = options.pop("out"), options.pop("modes"), options.pop("seeds")
    existing = [json.loads(line) for line in out.read_text().splitlines()] if out.is_file() else []
    done = {(row["mode"], row["seed"], row["iters"]) for row in existing}
    for seed in seeds:
        for name in modes:
            if (name, seed, options["iters"]) not in done:
                row = measure_mode(name, seed, options)
                with out.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    print(markdown_table([row for row in rows if row["iters"] == options["iters"]]))


if __name__ == "__main__":
    main()
