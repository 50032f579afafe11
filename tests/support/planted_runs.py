"""Finished runs for tests, small and consistent: each test breaks the one thing that it is about."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np

PARTITIONS = ("stable", "boundary", "uncertain", "novelty")
LETTERS = "ߊߋߌߍߎߏߐߓߔߕߖߗߘߙߛߝ"
SCALARS = ("commitment", "uncertainty", "transition_pressure", "recovery_margin", "phase_stiffness", "novelty",
           "stability")  # fmt: skip


def levenshtein(one: str, other: str) -> int:
    """Edit distance by the textbook's table, as a reference for ours."""
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, start=1):
        previous, row[0] = row[0], at
        for place, wanted in enumerate(other, start=1):
            previous, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, previous + (letter != wanted))
    return row[-1]


def sha256_of_value(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_jsonl(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=4), encoding="utf-8")


def write_tensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """A safetensors file, put together by hand."""
    kinds = {"float32": "F32", "float16": "F16", "int32": "I32", "uint16": "BF16"}
    header, data = {}, b""
    for name, array in tensors.items():
        raw = array.tobytes()
        header[name] = {
            "dtype": kinds[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def recognized_rows(count: int, seed: int, harm: float = 0.2) -> list[dict]:
    """Rows of a recognizer: references are the same for every seed, what is heard is not."""
    rows = []
    for number in range(count):
        fixed, draw = random.Random(number), random.Random(f"{seed}-{number}")
        reference = "".join(fixed.choice(LETTERS) for _ in range(fixed.randint(6, 20)))
        heard = "".join(draw.choice(LETTERS) if draw.random() < harm else letter for letter in reference)
        rows.append(
            {
                "feat_id": f"utterance-{number:04}",
                "audio_id": f"audio-{number:04}",
                "split": "test",
                "script": "nko",
                "mode": "baseline",
                "asr_text": heard,
                "reference_text": reference,
                "cer_edits": levenshtein(heard, reference),
                "reference_chars": len(reference),
                "trajectory_scalars": {name: round(fixed.random(), 3) for name in SCALARS},
                "partition": PARTITIONS[number % 4],
            }
        )
    return rows


def totals(rows: list[dict]) -> dict[str, Any]:
    edits, chars = sum(row["cer_edits"] for row in rows), sum(row["reference_chars"] for row in rows)
    return {"rows": len(rows), "cer_edits": edits, "reference_chars": chars, "cer": edits / chars if chars else None}


def recognizer_run(root: Path, name: str = "20260101-120000-nko-ab12", *, rows: int = 12, seed: int = 42,
                   harm: float = 0.2, metrics: list[dict] | None = None, **options: Any) -> Path:  # fmt: skip
    """A recognizer's run with every artifact, all of which agree."""
    folder = root / name
    folder.mkdir(parents=True)
    made = recognized_rows(rows, seed, harm)
    config = {"mode": "baseline", "script": "nko", "learning_rate": 3e-4, "batch_size": 32, "patience": 10,
              "iters": 400, "dropout": 0.1, "use_ttt": False, "ranks": 1} | options | {"seed": seed}  # fmt: skip
    for row in made:
        row["mode"] = config["mode"]
    (folder / "config.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in config.items()))
    ids = {"train": [f"train-{n}" for n in range(30)], "valid": ["valid-0"], "test": [row["feat_id"] for row in made]}
    sums = {part: sha256_of_value(listed) for part, listed in ids.items()}
    write_json(folder / "split.json", {"schema": "thunder.split/1", "ids": ids, "sha256": sums})
    write_json(folder / "vocab.json", {"labels": list(LETTERS), "blank": 0})
    write_json(folder / "environment.json", {"versions": {"thunder": "0.1.0"}, "chip": "x", "commit": "c" * 40,
                                             "data_sha256": {"features": "f" * 64}})  # fmt: skip
    write_json(folder / "plan.json", {"job": "asr", "length": {"updates": config["iters"]}})
    (folder / "train.log").write_text("train\n")
    (folder / "run.log").write_text("run\n")
    draw = np.random.default_rng(seed)
    tensors = {f"layer.{n}": draw.normal(size=(8, 4)).astype(np.float32) for n in range(3)}
    write_tensors(folder / "best.safetensors", tensors)
    write_jsonl(folder / "test_predictions.jsonl", made)
    references = [{"feat_id": row["feat_id"], "reference_text": row["reference_text"]} for row in made]
    write_jsonl(folder / "test_references.jsonl", references)
    by_partition = {part: totals([row for row in made if row["partition"] == part]) for part in PARTITIONS}
    write_json(folder / "test_metrics_by_partition.json", {"partitions": by_partition, "total": totals(made)})
    metrics = metrics if metrics is not None else plain_metrics(config["iters"], config["learning_rate"])
    write_jsonl(folder / "metrics.jsonl", metrics)
    valid = [entry for entry in metrics if "valid_loss" in entry]
    best = min(valid, key=lambda entry: entry["valid_loss"]) if valid else {}
    write_json(folder / "results.json", {"steps": metrics[-1]["step"] if metrics else 0, "global_batch_size": 32,
               "best_valid_loss": best.get("valid_loss"), "best_step": best.get("step"), "stopped_early": None,
               "test": totals(made)})  # fmt: skip
    return folder


def plain_metrics(steps: int, lr: float, every: int = 40) -> list[dict]:
    """Reports and validations of a run to its last step, at a constant rate, getting better all the time."""
    lines = []
    for step in range(every, steps + 1, every):
        lines.append({"step": step, "epoch": step // 100, "loss": 3 / step, "learning_rate": lr, "tokens": step * 100})
        lines.append({"step": step, "valid_loss": 4 / step, "best_step": step})
    return lines


def adapter_run(root: Path, name: str = "20260101-130000-sample-cd34", *, rows: int = 10, seed: int = 0) -> Path:
    """A LoRA run with every artifact, all of which agree."""
    folder = root / name
    (folder / "adapters").mkdir(parents=True)
    made = []
    for number, row in enumerate(recognized_rows(rows, seed)):
        wanted, heard = row["reference_text"], row["asr_text"]
        answers = {"prediction_before": heard[1:], "prediction_after": wanted if number % 3 else heard}
        texts = {"edits_asr": heard, "edits_before": heard[1:], "edits_after": answers["prediction_after"]}
        made.append(
            {"row_id": f"row-{number}", "asr_text": heard, "reference_text": wanted, **answers, "partition": "unknown",
             "script": "nko", "reference_chars": len(wanted)}
            | {key: levenshtein(text, wanted) for key, text in texts.items()}
        )  # fmt: skip
    chars = sum(row["reference_chars"] for row in made)
    change = [row["edits_after"] - row["edits_before"] for row in made]
    test = {f"cer_{key}": sum(row[f"edits_{key}"] for row in made) / chars for key in ("asr", "before", "after")}
    test |= {"rows": rows, "reference_chars": chars, "improved": sum(edits < 0 for edits in change),
             "unchanged": sum(edits == 0 for edits in change), "worse": sum(edits > 0 for edits in change)}  # fmt: skip
    metrics = plain_metrics(400, 3e-4)
    write_jsonl(folder / "test_predictions.jsonl", made)
    write_jsonl(folder / "metrics.jsonl", metrics)
    best = metrics[-1]
    write_json(folder / "results.json", {"steps": 400, "best_valid_loss": best["valid_loss"], "best_step": 400,
                                         "stopped_early": None, "test": test})  # fmt: skip
    write_json(folder / "plan.json", {"job": "train", "length": {"updates": 400}})
    write_json(folder / "environment.json", {"versions": {"thunder": "0.1.0"}, "data_sha256": {"train": "a" * 64}})
    (folder / "config.yaml").write_text(f"learning_rate: 3.0e-4\niters: 400\nseed: {seed}\n")
    (folder / "train.log").write_text("train\n")
    write_json(folder / "adapters" / "adapter_config.json", {"num_layers": 4, "lora_parameters": {"rank": 8}})
    tensors = {"a.lora_a": np.ones((4, 2), np.float32), "a.lora_b": np.full((2, 4), 0.5, np.float32)}
    write_tensors(folder / "adapters" / "adapters.safetensors", tensors)
    return folder


def evaluation_run(root: Path, name: str = "20260101-140000-eval-ef56", *, rows: int = 10, seed: int = 0) -> Path:
    """What `thunder eval` leaves: the input, a proposal that mends every other row, and one row without a reference."""
    folder = root / name
    folder.mkdir(parents=True)
    made, silent = [], {"row_id": "silent", "input": "ߊ", "proposal": "ߊ", "reference": " ", "accepted": True}
    for number, row in enumerate(recognized_rows(rows, seed)):
        proposal = row["reference_text"] if number % 2 else row["asr_text"] + "ߊ"
        texts = {"input": row["asr_text"], "proposal": proposal, "reference": row["reference_text"]}
        made.append({"row_id": f"row-{number}", **texts, "accepted": number % 3 > 0, "partition": "stable"})
    for row in (*made, silent):
        wanted = row["reference"].strip()
        before, after = levenshtein(row["input"], wanted), levenshtein(row["proposal"], wanted)
        row |= {"edits_before": {"codepoint": before}, "edits_proposal": {"codepoint": after}}
        row |= {"edits_after": {"codepoint": after if row["accepted"] else before}}
    chars = sum(len(row["reference"]) for row in made)
    edits = {key: sum(row[f"edits_{key}"]["codepoint"] for row in made) for key in ("before", "after")}
    write_jsonl(folder / "predictions.jsonl", [*made, silent])
    sha256 = hashlib.sha256((folder / "predictions.jsonl").read_bytes()).hexdigest()
    said = {"rows": rows, "reference_chars": chars, "empty_reference": {"rows": 1}}
    said |= {f"edits_{key}": number for key, number in edits.items()}
    said |= {f"cer_{key}": number / chars for key, number in edits.items()}
    write_json(folder / "results.json", said | {"files": {"predictions.jsonl": sha256}})
    return folder
