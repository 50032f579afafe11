"""CPU seconds and peak memory of `thunder corpus build` and `verify` on rows with planted near duplicates.

python benchmarks/near_duplicates.py [--rows 290596] [--twins 0.02]

The rows are made: 1 to 14 words each, drawn from 20,000 made N'Ko words by Zipf's law, so that common words recur as
they do in real text. A share of the rows are twins of others, with one edit for each 10 code points. Each command runs
in a process of its own, on one thread.
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

from corpora import SYLLABLES


def write_rows(path: Path, rows: int, twins: float) -> None:
    """Write pairs `before`/`after`; a share `twins` of them are edited copies of an earlier row."""
    draw = random.Random(1)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 3))) for _ in range(20_000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    letters = "".join(sorted(set("".join(SYLLABLES))))
    known: list[str] = []
    with path.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            if known and draw.random() < twins:
                after = edited(draw.choice(known), letters, draw)
            else:
                after = " ".join(draw.choices(words, weights, k=draw.randint(1, 14)))
            if len(known) < 10_000:
                known.append(after)
            before = "".join(letter for letter in after if draw.random() > 0.1)
            row = {"id": f"made-{number}", "before": before, "after": after}
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def edited(text: str, letters: str, draw: random.Random) -> str:
    """Return a text with one letter in ten, and at least one, replaced."""
    chars = list(text)
    for at in draw.sample(range(len(chars)), max(1, len(chars) // 10)):
        chars[at] = draw.choice(letters)
    return "".join(chars)


def build(source: Path, out: Path, edits: float) -> dict[str, object]:
    """Build a corpus; return what was left out."""
    from thunder.corpora.builders.real_corpus import build_agp_nko_correction_chatml
    from thunder.corpora.corpus_settings import BuildSettings

    settings = BuildSettings(
        inputs=[str(source)], out=str(out / "corpus"), identity_share=0.0, near_duplicate_edits=edits
    )
    return build_agp_nko_correction_chatml(settings)["left_out"]


def verify(source: Path, out: Path, edits: float) -> dict[str, object]:
    """Look for leaks in the corpus that was built last, with the default criteria."""
    from thunder.corpora.builders.corpus_checks import count_leaks

    return count_leaks(out / "corpus", {"settings": {}})


def run_one(what: str, source: Path, out: Path, edits: float) -> None:
    """Run one command here; print CPU seconds, peak MB and its result."""
    started = time.process_time()
    result = {"build": build, "verify": verify}[what](source, out, edits)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(f"{seconds:7.1f} s  peak {peak:.0f} MB  {json.dumps(result)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=290_596)
    parser.add_argument("--twins", type=float, default=0.02, help="share of rows that are edited copies")
    parser.add_argument("--one", choices=("build", "verify"), help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--edits", type=float, default=0.1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        return run_one(given.one, given.source, given.out, given.edits)
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "rows.jsonl"
        write_rows(source, given.rows, given.twins)
        for what, edits in (("build", 0.0), ("verify", 0.1), ("build", 0.1), ("verify", 0.1)):
            command = [sys.executable, __file__, "--one", what, "--source", str(source), "--out", name]
            done = subprocess.run([*command, "--edits", str(edits)], capture_output=True, text=True, timeout=3600)
            if done.returncode:
                raise SystemExit(done.stderr)
            print(f"{what:6} edits up to {edits:g} of the shorter text: {done.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
