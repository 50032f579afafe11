"""Train a LoRA adapter on the shipped tiny base, then measure what it repairs.

    python examples/train_and_evaluate.py [--iters 200]

Needs no download: model and rows lie in this repository.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from thunder import evaluate, train

SAMPLE = Path(__file__).parents[1] / "data" / "sample"


def main(iters: int, rows: int) -> None:
    """Train for so many iterations; evaluate on so many rows."""
    # one rank in this process; leave `ranks` out to use every machine of your cluster file
    run = train(ranks=1, iters=iters, test_rows=0)
    print(f"{run.steps} steps in {run.run_folder}")
    print(f"best validation loss {run.best_validation_loss:.4f} at step {run.best_step}")

    # the folder of the evaluation gets report.html, predictions.jsonl and results.json
    score = evaluate(rows=str(SAMPLE / "test.jsonl"), limit=rows, adapter_path=str(run.output_folder))
    print(f"CER {score.cer_before:.4f} -> {score.cer_after:.4f} on {score.rows} rows")
    print(f"{score.improved} improved, {score.worse} worse; report: {score.folder / 'report.html'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iters", type=int, default=200)
    parser.add_argument("--rows", type=int, default=40)
    arguments = parser.parse_args()
    main(arguments.iters, arguments.rows)
