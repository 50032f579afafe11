"""Correction rows and N'Ko sentences made for the tests of the corpora."""

from __future__ import annotations

import random

GOOD = {
    "feat_id": "f1", "audio_id": "a1", "split": "test", "script": "nko", "mode": "trajectory", "asr_text": "ߓߊ",
    "reference_text": "ߓߊ߬", "cer_edits": 1, "reference_chars": 3, "trajectory_scalars": {"novelty": 0.5},
    "partition": "stable", "run_id": "r1",
}  # fmt: skip

WORDS = "ߡߏ߬ߛߏ ߞߊ߬ߝߊ ߟߍߙߊ ߖߡߊ߬ߣߊ ߘߐ߫ ߓߟߏ߫ ߞߣߐ߫ ߛߓߍ߫ ߞߊ߬ߙߊ߲߬ ߥߊ߫ ߣߊ߬ ߞߎߡߊ ߕߋߙߌ ߘߋ߲ ߗߍ߭ ߓߏ߲ ߛߌߟߊ ߦߙߌ".split()
SYLLABLES = [consonant + vowel for consonant in "ߓߕߖߗߘߙߛߝߞߟߡߣ" for vowel in "ߊߋߌߍߎߏߐ"]


def sentences(count):
    """Texts no two of which share three words in a row."""
    draw, seen, out = random.Random(4), set(), []
    while len(out) < count:
        words = draw.choices(WORDS, k=6)
        threes = {tuple(words[at : at + 3]) for at in range(4)}
        if not threes & seen:
            seen |= threes
            out.append(" ".join(words))
    return out


def pairs(count, seed=0, **fields):
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 3))) for _ in range(draw.randint(5, 9))]
        reference = " ".join(words)
        rows.append({"before": "".join(c for c in reference if draw.random() > 0.1), "after": reference} | fields)
    return rows
