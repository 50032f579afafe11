#!/usr/bin/env python3
"""Compare recognizers that write Bambara in Latin letters and in N'Ko, trained on the same audio.

    scripts/thunder_python.sh scripts/two_scripts_one_audio.py SENTENCES.tsv FOLDER [--seeds 42 43 44]

The audio is SYNTHETIC: espeak-ng speaks the sentences of the text (column bam) into FOLDER/synthetic-bam. Then the
package's own commands make features, train one small head for each script on the same recordings, and test both on
the same sentences, which neither has seen. It shows that the whole path works. It is no measure of either script: one
voice without tone, and N'Ko that was spelled from the Latin letter by letter.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from pathlib import Path

from thunder.cli.main import main

HEAD = "--head small --downsample 2 --batch-size 16 --learning-rate 1e-3 --steps-per-eval 100 --ranks 1".split()


def run_thunder(*words: str) -> None:
    """Run a command of ours; a failure has said why already, and ends the story."""
    print("\n$ thunder", *words, file=sys.stderr, flush=True)
    if code := main(words):
        sys.exit(code)


def run_json(*words: str) -> dict:
    """Run a command with --json and return what it printed."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        run_thunder(*words, "--json")
    return json.loads(output.getvalue())


def run_experiment(options: argparse.Namespace) -> None:
    """Speak, make features, train twice for each seed, and print the table."""
    audio, features = options.folder / "synthetic-bam", options.folder / "synthetic-bam-logmel"
    run_thunder(
        "asr", "synthesize", options.text, "--sentences", options.sentences, "--longest", "40", "--out", str(audio)
    )
    metadata = str(audio / "metadata.jsonl")
    run_thunder("asr", "features", metadata, "--features", "logmel", "--subsample", "2", "--out", str(features))
    print("script  seed  CER     WER     exact  of test sentences (SYNTHETIC speech)")
    for seed in options.seeds:
        for script in ("latin", "nko"):
            words = ["asr", "train", "--features", str(features), "--script", script, "--seed", seed]
            test = run_json(*words, "--iters", options.iters, *HEAD)["test"]
            counts = f"{test['exact']:5}  {test['rows']}"
            print(f"{script:6}  {seed:>4}  {test['cer']:.4f}  {test['wer']:.4f}  {counts}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", help="file of Bambara sentences: .tsv with a column bam")
    parser.add_argument("folder", type=Path, help="where the synthetic audio and its features go")
    parser.add_argument("--sentences", default="400")
    parser.add_argument("--iters", default="400")
    parser.add_argument("--seeds", nargs="+", default=["42"])
    run_experiment(parser.parse_args())
