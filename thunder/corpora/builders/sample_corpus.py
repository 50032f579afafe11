"""Generate the shipped sample corpus: N'Ko sentences from a small grammar, corrupted by the error channel.

The corpus serves smoke tests. The words and their spellings are facts of the language; the sentences are generated here
and belong to nobody. They are grammatical in form, but no speaker has checked them, and a measurement on them does not
show the quality of a model.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.corpora.channels.asr_errors import corrupt_by_hand
from thunder.errors import CorpusError, UsageError
from thunder.text import distance
from thunder.text.chat import correction_messages
from thunder.text.distance import ErrorCount
from thunder.text.normalize import normalize_text

SEED = 7
COUNTS = {"train": 320, "valid": 40, "test": 60}
# share of rows without mistakes: a corrector must learn not to change correct text
IDENTITY_SHARE = 0.1
# mistakes per code point, drawn evenly from this range for each row that gets any
SEVERITY = (0.14, 0.34)
# after this many repeated sentences in sequence the grammar is exhausted
PATIENCE = 1000

# Nouns stand in the definite form; where a number or an adjective follows they take the bare form of WITH_MODIFIER.
LEXICON: dict[str, tuple[str, ...]] = {
    "pronoun": ("ߒ", "ߌ", "ߊ߬", "ߊ߲", "ߊߟߎ߫", "ߊ߬ߟߎ߬"),
    "person": (
        "ߡߏ߬ߛߏ", "ߗߍ߭", "ߘߋ߲", "ߡߐ߱", "ߕߋߙߌ", "ߓߊߘߋ߲", "ߘߋ߲ߞߍ", "ߘߋ߲ߡߛߏ",
        "ߞߊ߬ߙߊ߲߬ߘߋ߲", "ߞߊ߬ߙߊ߲߬ߡߐ߮", "ߡߊ߲߬ߛߊ", "ߛߣߍ߬ߞߍ߬ߟߊ",
    ),
    "someone": ("ߡߏ߬ߛߏ", "ߗߍ߭", "ߘߋ߲", "ߡߐ߱"),
    "drink": ("ߖߌ", "ߣߐߣߐ"),
    "food": ("ߡߊ߬ߟߏ", "ߛߏ߬ߓߏ", "ߞߊ߬ߓߊ"),
    "thing": ("ߟߍߙߊ", "ߞߊ߬ߝߊ", "ߓߏ߲", "ߡߎ߬ߙߎ", "ߣߌ߬ߛߌ", "ߝߊ߬ߟߌ", "ߥߎ߬ߟߎ"),
    "writing": ("ߟߍߙߊ", "ߞߊ߬ߝߊ", "ߘߐ߲߬ߞߟߌ", "ߕߐ߮"),
    "saying": ("ߞߎߡߊ", "ߞߊ߲", "ߕߐ߮", "ߘߐ߲߬ߞߟߌ", "ߞߏ", "ߓߊߛߑߞߌߞߊ߲"),
    "place": ("ߛߏ ߞߣߐ߫", "ߓߏ߲ ߞߣߐ߫", "ߟߐ߯ߝߍ ߘߐ߫", "ߞߊ߬ߙߊ߲߬ߕߊ ߘߐ߫", "ߖߡߊ߬ߣߊ ߞߣߐ߫", "ߞߎ߬ߙߎ ߞߊ߲߬", "ߛߌߟߊ ߞߊ߲߬", "ߦߙߌ ߞߐߝߍ߬"),
    "number": ("ߞߋߟߋ߲߫", "ߝߌ߬ߟߊ߬", "ߛߓߊ߬", "ߣߊ߯ߣߌ߲߫", "ߟߏ߯ߟߎ߫", "ߥߐ߯ߙߐ߫", "ߕߊ߲߫"),
    "adjective": ("ߜߘߍ߫", "ߛߌߦߊߡߊ߲߫", "ߞߎߘߊ߫", "ߢߌߡߊ߫"),
    "handle": ("ߦߋ߫", "ߛߊ߲߬", "ߕߊ߬", "ߢߌߣߌ߲߫", "ߛߐ߬ߘߐ߲߬", "ߟߊߓߊ߯ߙߊ߫"),
    "meet": ("ߦߋ߫", "ߞߟߌ߫", "ߘߍ߬ߡߍ߲߬", "ߞߊ߬ߣߌ߲߬"),
    "write": ("ߛߓߍ߫", "ߞߊ߬ߙߊ߲߬", "ߡߊߝߟߍ߫"),
    "tell": ("ߝߐ߫", "ߟߐ߲߫", "ߟߊߡߍ߲߫", "ߢߊߝߐ߫"),
    "eat": ("ߘߊߥߎ߲߫",),
    "swallow": ("ߡߌ߲߬",),
    "move": ("ߥߊ߫", "ߣߊ߬", "ߛߋ߫", "ߕߏ߫", "ߓߐ߫"),
    "today": ("ߓߌ߬",),
    "before": ("ߓߌ߬", "ߞߎߣߎ߲߬"),
    "after": ("ߛߌߣߌ߲߫",),
    "here": ("ߦߊ߲߬", "ߦߋ߲߬"),
    "also": ("ߝߣߊ߫", "ߞߏߛߓߍ߫", "ߘߐߙߐ߲߫"),
}  # fmt: skip
# particles, and the forms they take by the words around them
PARTICLES = ("ߞߊ߬", "ߦߋ߫", "ߧߋ߫", "ߕߍ߫", "ߡߊ߫", "ߘߌ߫", "ߓߘߊ߫", "ߟߊ߫", "ߠߊ߫", "ߘߊ߫", "ߟߋ߬", "ߠߋ߬", "ߟߎ߬", "ߠߎ߬", "ߣߌ߫", "ߓߟߏ߫", "߸")
WITH_MODIFIER = {
    "ߡߏ߬ߛߏ": "ߡߛߏ߬", "ߗߍ߭": "ߗߍ߬", "ߘߋ߲": "ߘߋ߲߫", "ߡߐ߱": "ߡߐ߰", "ߟߍߙߊ": "ߟߍߙߊ߫", "ߞߊ߬ߝߊ": "ߞߊ߬ߝߊ߬", "ߓߏ߲": "ߓߏ߲߫",
    "ߡߎ߬ߙߎ": "ߡߎ߬ߙߎ߬", "ߣߌ߬ߛߌ": "ߣߌ߬ߛߌ߬", "ߝߊ߬ߟߌ": "ߝߊ߬ߟߌ߬", "ߥߎ߬ߟߎ": "ߥߎ߬ߟߎ߬",
}  # fmt: skip

# A template is words as they stand and slots: {word class}, or {class+} for a noun that a modifier follows.
# No object is a pronoun, so the vowel that would be elided before one never meets another.
TEMPLATES = (
    "{person} ߞߊ߬ {thing} {handle} {before}",
    "{pronoun} ߞߊ߬ {thing+} {number} {handle}",
    "{pronoun} ߣߌ߫ {person} ߞߊ߬ {food} {eat} {place}",
    "{person} ߟߎ߬ ߦߋ߫ {person} {meet} ߟߊ߫ {also}",
    "{before} ߸ {person} ߞߊ߬ {writing} {write} {place}",
    "{pronoun} ߦߋ߫ {writing} {write} ߟߊ߫ {here}",
    "{someone+} {adjective} ߕߍ߫ {saying} {tell} ߟߊ߫",
    "{pronoun} ߡߊ߫ {saying} {tell} {here} {before}",
    "{person} ߡߊ߫ {thing} {handle} {place}",
    "{after} ߸ {pronoun} ߘߌ߫ {thing+} {adjective} {handle}",
    "{person} ߟߎ߬ ߘߌ߫ {drink} {swallow} {place}",
    "{person} {move} ߘߊ߫ {place} {before}",
    "{person} ߓߘߊ߫ {move} {place} {also}",
    "{thing+} {number} ߦߋ߫ {person} ߓߟߏ߫ {today}",
    "{pronoun} ߟߊ߫ {person} ߦߋ߫ {place} {today}",
    "{pronoun} ߟߊ߫ {person} ߦߋ߫ {person} ߟߋ߬ ߘߌ߫",
)
NASAL_ENDS = ("\u07f2", "\u07d2")
TONES = "".join(map(chr, range(0x07EB, 0x07F2)))


@dataclass(frozen=True)
class SampleFile:
    """One written file of the corpus, with the error rate of its corrupted texts."""

    path: Path
    rows: int
    cer: float
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON types."""
        return asdict(self) | {"path": str(self.path)}


class _Decks:
    """Shuffled decks: every card is dealt once before any is dealt again, so that no word is rare in any slot."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.left: dict[str, list[str]] = {}

    def deal(self, name: str, cards: Sequence[str]) -> str:
        left = self.left.get(name) or list(cards)
        card = left.pop(int(self.source.random() * len(left)))
        self.left[name] = left
        return card


def generate_samples(seed: int, rows: int) -> list[dict[str, Any]]:
    """Generate `count` rows with distinct references; equal for one seed in every version of Python.

    Raises UsageError where the grammar has fewer sentences.
    """
    # of the generator only random() is used: choice, shuffle and sample have changed between versions of Python
    source = random.Random(seed)
    decks = _Decks(source)
    references: set[str] = set()
    samples: list[dict[str, Any]] = []
    refused = 0
    while len(samples) < rows:
        reference = _sentence(decks)
        if reference in references:
            refused += 1
            if refused > PATIENCE:
                raise UsageError(f"the grammar gave only {len(samples)} different sentences", fix="ask for fewer rows")
            continue
        refused = 0
        references.add(reference)
        samples.append(_row(f"sample-{len(samples) + 1:04d}", _damaged(reference, source), reference))
    return samples


def write_sample_corpus(folder: Path, seed: int = SEED, counts: Mapping[str, int] | None = None) -> list[SampleFile]:
    """Write <split>.jsonl for each split of counts, and last a README.md with their digests.

    No reference text occurs in two of the files. Raises UsageError where the grammar has too few sentences, and
    CorpusError where the folder cannot be written.
    """
    counts = dict(counts or COUNTS)
    rows = generate_samples(seed, sum(counts.values()))
    files: list[SampleFile] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split, number in counts.items():
            part, rows = rows[:number], rows[number:]
            path = folder / f"{split}.jsonl"
            digest.write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part))
            total = sum((ErrorCount(row["cer_edits"], row["reference_chars"]) for row in part), ErrorCount())
            files.append(SampleFile(path, len(part), total.rate or 0.0, digest.sha256_file(path)))
        digest.write_atomically(folder / "README.md", _readme(seed, counts, files))
    except OSError as error:
        raise CorpusError(f"{folder}: {error.strerror or error}", fix="give a writable folder") from None
    return files


def _sentence(decks: _Decks) -> str:
    """Generate one sentence: the slots of a template are dealt, each word in the form that its neighbors require."""
    words: list[str] = []
    used: set[str] = set()
    template = decks.deal("templates", TEMPLATES)
    for part in template.split(" "):
        word = part
        if part.startswith("{"):
            cards = LEXICON[part.strip("{}+")]
            word = decks.deal(f"{template} {part}", cards)
            # no person meets himself: a word occurs once in a sentence
            while word in used:
                word = decks.deal(f"{template} {part}", cards)
            used.add(word)
        if part.endswith("+}"):
            word = WITH_MODIFIER[word]
        words += word.split(" ")
    for position in range(1, len(words)):
        words[position] = _after_nasal(words[position - 1], words[position])
    return normalize_text(" ".join(words))


def _after_nasal(previous: str, word: str) -> str:
    """Return a particle as it is written after another word.

    Particles in l take na woloso after a nasal; ye takes nya woloso after the pronouns I and we.
    """
    if not previous.rstrip(TONES).endswith(NASAL_ENDS):
        return word
    if word in ("ߟߊ߫", "ߟߋ߬", "ߟߎ߬"):
        return word.replace("ߟ", "ߠ")
    return "ߧߋ߫" if word == "ߦߋ߫" and previous in ("ߒ", "ߊ߲") else word


def _damaged(reference: str, source: random.Random) -> str:
    """Return a sentence as a recognizer might output it; sometimes it is right."""
    if source.random() < IDENTITY_SHARE:
        return reference
    low, high = SEVERITY
    mistakes = max(1, round(len(reference) * (low + (high - low) * source.random())))
    return corrupt_by_hand(reference, mistakes, source)


def _row(row_id: str, asr_text: str, reference: str) -> dict[str, Any]:
    errors = distance.count_errors(asr_text, reference)
    return {
        "id": row_id,
        "messages": correction_messages(asr_text, reference),
        "asr_text": asr_text,
        "reference_text": reference,
        "cer_edits": errors.edits,
        "reference_chars": errors.reference_chars,
        "origin": "synthetic",
        "evidence_class": "smoke",
    }


def _readme(seed: int, counts: Mapping[str, int], files: Sequence[SampleFile]) -> str:
    flags = "".join(f" --{split} {number}" for split, number in counts.items() if COUNTS.get(split) != number)
    table = "\n".join(f"| {file.path.name} | {file.rows} | {file.cer:.4f} | `{file.sha256}` |" for file in files)
    return f"""\
# Sample corpus: N'Ko correction rows for trying things out

Made sentences: grammatical in form, not checked by a speaker, do not use as evidence of quality.

Each row asks to correct `asr_text` into `reference_text`, as chat messages. The sentences come from a small grammar
over some hundred common words; the mistakes (lost and swapped tone marks, lost nasal dots, confused vowels, merged and
split words) are drawn as often as they occur in published human edits of N'Ko. One row in ten has no mistake.
No reference text stands in two files. Every row says `"origin": "synthetic"` and `"evidence_class": "smoke"`.

Made by `thunder corpus sample --out data/sample --seed {seed}{flags}`; the same command makes the same bytes.
Licence: CC0-1.0.

| file | rows | CER (code points, micro) | sha256 |
|---|--:|--:|---|
{table}
"""
