"""Rows per second of `thunder corpus build` against a plain loop with jiwer, in turns, and peak memory of a big build.

python benchmarks/corpora.py [--rows 20000] [--turns 2] [--whole 290596]

Both read the same correction rows and write ChatML. The plain loop counts code point edits with jiwer and does nothing
else; the build also checks every field, counts four units, divides the rows, looks for leaks and learns the errors.
Seconds are those of the processor, so that what else runs on the machine counts little; both use one thread.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from thunder.text.chat import correction_messages

SYLLABLES = [
    consonant + vowel + mark
    for consonant in "ߓߕߖߗߘߙߛߝߞߟߡߣߥߦ"
    for vowel in "ߊߋߌߍߎߏߐ"
    for mark in ("", "\u07eb", "\u07ec", "\u07f2")
]


def write_rows(path: Path, rows: int) -> None:
    """Correction rows of made words, about 60 code points each with one in ten changed."""
    draw = random.Random(1)
    with path.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 3))) for _ in range(draw.randint(6, 14))]
            reference = " ".join(words)
            heard = "".join(letter for letter in reference if draw.random() > 0.1)
            row = {
                "feat_id": f"made-{number}", "audio_id": f"recording-{number // 2}", "split": "test", "script": "nko",
                "mode": "trajectory", "asr_text": heard, "reference_text": reference,
                "trajectory_scalars": {"commitment": round(draw.random(), 3), "novelty": round(draw.random(), 3)},
                "partition": draw.choice(("stable", "boundary", "uncertain", "novelty")), "run_id": "made",
            }  # fmt: skip
            counts = {"cer_edits": len(reference) - len(heard), "reference_chars": len(reference)}
            stream.write(json.dumps(row | counts, ensure_ascii=False) + "\n")


def plain(source: Path, out: Path) -> None:
    """The loop that one would write."""
    import jiwer

    with source.open(encoding="utf-8") as lines, (out / "plain.jsonl").open("w", encoding="utf-8") as stream:
        for line in lines:
            row = json.loads(line)
            row["cer"] = jiwer.cer(row["reference_text"], row["asr_text"])
            row["messages"] = correction_messages(row["asr_text"], row["reference_text"])
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def build(source: Path, out: Path) -> None:
    """What `thunder corpus build` does, with default settings but for identity rows, which the loop has none of."""
    from thunder.corpora.builders.real_corpus import build_agp_nko_correction_chatml
    from thunder.corpora.corpus_settings import BuildSettings

    settings = BuildSettings(inputs=[str(source)], out=str(out / "corpus"), identity_share=0.0, recompute=True)
    build_agp_nko_correction_chatml(settings)


def timed(what: str, source: Path, out: Path) -> tuple[float, float]:
    """(seconds of the processor, peak MB) of one of them in a process of its own; its start is not counted."""
    command = [sys.executable, __file__, "--one", what, "--source", str(source), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600)
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)


def one(what: str, source: Path, out: Path) -> None:
    """Run one of them here and print its seconds and the peak memory of this process in MB."""
    started = time.process_time()
    {"plain": plain, "build": build}[what](source, out)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(f"{seconds} {peak}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="rows of the comparison")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--whole", type=int, default=290_596, help="rows of the big build; 0 = none")
    parser.add_argument("--one", choices=("plain", "build"), help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        return one(given.one, given.source, given.out)
    with tempfile.TemporaryDirectory() as name:
        source, out = Path(name) / "rows.jsonl", Path(name)
        write_rows(source, given.rows)
        seconds: dict[str, list[float]] = {"plain": [], "build": []}
        for _ in range(given.turns):
            for what, times in seconds.items():
                took, peak = timed(what, source, out)
                times.append(took)
                print(f"{what:6} {given.rows / took:8.0f} rows/s  {took:6.1f} s  peak {peak:.0f} MB", flush=True)
        print(f"ratio build / plain: {min(seconds['plain']) / min(seconds['build']):.2f} (best of {given.turns} each)")
        if given.whole:
            write_rows(source, given.whole)
            took, peak = timed("build", source, out)
            print(f"whole  {given.whole / took:8.0f} rows/s  {took:6.1f} s  peak {peak:.0f} MB for {given.whole} rows")


if __name__ == "__main__":
    main()
