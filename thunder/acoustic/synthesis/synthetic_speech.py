"""Synthetic speech for clean Bambara sentences, with the text of both scripts: to try a recognizer end to end.

No person is recorded: the name of every file, row and folder contains "synthetic". A recognizer's score on this speech
tests the pipeline, and does not predict its score on people.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import field_validator

from thunder import digest
from thunder.acoustic.synthesis import espeak
from thunder.acoustic.synthesis.pronunciation import to_phonemes
from thunder.config import Settings, option
from thunder.corpora.builders import clean_texts
from thunder.corpora.splits.split_by_reference import part_of_mark, text_mark
from thunder.errors import CorpusError
from thunder.text.alphabet import LATIN, NKO
from thunder.text.normalize import modernize_bambara, spoken_form
from thunder.text.transliterate import LETTER_BY_LETTER, to_nko

SCHEMA = "thunder.synthetic-speech/1"
METADATA, RECORD, README = "metadata.jsonl", "synthesis.json", "README.md"
WHY_VOICE = "its voice for Setswana has all seven vowels of Bambara, and open syllables"
ABOUT = f"""# Synthetic speech

No person speaks here. Sentences of text were spoken by {{version}} (voices {{voices}}; {WHY_VOICE}), phoneme by
phoneme, without tone. `{METADATA}` has the Latin text, what it is in N'Ko ({LETTER_BY_LETTER}), and where each
sentence stands; `{RECORD}` has the options and digests. The text keeps the licence of its source.
"""


class SynthesisSettings(Settings):
    """Options of `thunder asr synthesize`."""

    text: list[str] = option(
        ..., "Files of Bambara: .tsv with a header, .jsonl, or one sentence a line.", panel="Input", min_length=1
    )
    column: str = option("bam", "Column or field of the text.", panel="Input")
    sentences: int = option(300, "Number of sentences to speak, selected by seed.", panel="Input", ge=1)
    shortest: int = option(10, "Shortest sentence, in code points.", panel="Input", ge=1)
    longest: int = option(60, "Longest sentence, in code points.", panel="Input", ge=1, le=200)
    seed: int = option(0, "Selects the sentences; the split does not depend on it.", panel="Input", ge=0)
    voices: list[str] = option(
        ["tn"], "Voices of espeak-ng, used in turn; tn+f2 and tn+m3 are others with the same sounds.", panel="Speech"
    )
    speed: int = option(140, "Words per minute.", panel="Speech", ge=80, le=450)
    valid_share: float = option(0.1, "Share of the sentences held out for validation.", panel="Output", ge=0, lt=1)
    test_share: float = option(0.1, "Share of the sentences held out for the test.", panel="Output", ge=0, lt=1)
    out: str = option(..., "Folder to create; a folder that this command made is replaced.", panel="Output")

    @field_validator("out")
    @classmethod
    def _named_synthetic(cls, out: str) -> str:
        if "synthetic" not in Path(out).name:
            raise ValueError("must have 'synthetic' in its name, so that nobody takes it for recordings")
        return out


@dataclass(frozen=True)
class Sentence:
    """A sentence to speak: text in both scripts, phonemes, source line and part."""

    latin: str
    nko: str
    phonemes: str
    source: str
    part: str


def choose_sentences(settings: SynthesisSettings) -> tuple[list[Sentence], dict[str, int], list[dict[str, Any]]]:
    """The sentences, counts of excluded texts by reason, and the sources. Raises CorpusError if none can be spoken."""
    paths = [Path(path) for path in settings.text]
    # more than requested, since some cannot be spoken
    pool = clean_texts.choose_texts(
        paths, settings.column, 3 * settings.sentences, settings.seed, (settings.shortest, settings.longest)
    )
    left_out, chosen = Counter(pool.left_out), {}
    for text in pool.chosen:
        latin = spoken_form(modernize_bambara(text.text), LATIN)
        nko = to_nko(latin, "none").text
        sounds = None if LATIN.unknown_characters(latin) or NKO.unknown_characters(nko) else to_phonemes(latin)
        if sounds is None:
            left_out["letters or digits that have no sound here"] += 1
        elif latin in chosen:
            left_out["said already"] += 1
        elif len(chosen) < settings.sentences:
            part = part_of_mark(text_mark(latin), "synthetic speech", settings.valid_share, settings.test_share)
            chosen[latin] = Sentence(latin, nko, sounds, text.source, part)
    if not chosen:
        raise CorpusError(f"no sentence of {', '.join(settings.text)} can be spoken: {dict(left_out)}", "give Bambara")
    sources = [{"path": str(source.path), "sha256": source.sha256} for source in pool.sources]
    return list(chosen.values()), dict(left_out), sources


def synthesize_speech(settings: SynthesisSettings, on_sentence: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Speak the sentences into a folder of FLAC files with metadata; return the record, which is written last.

    Raises UsageError if espeak-ng or the voice is missing, CorpusError for unusable texts or if the folder has other
    content.
    """
    version, out = espeak.espeak_version(), Path(settings.out)
    _check_output_folder(out)
    sentences, left_out, sources = choose_sentences(settings)
    temporary = out.parent / f".{out.name}.{os.getpid()}.tmp"
    try:
        temporary.mkdir(parents=True)
        rows = []
        for number, sentence in enumerate(sentences):
            rows.append(_speak_sentence(sentence, number, settings, version, temporary))
            if on_sentence:
                on_sentence(1)
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (temporary / METADATA).write_text(content, encoding="utf-8", newline="\n")
        about = ABOUT.format(version=version, voices=", ".join(settings.voices))
        (temporary / README).write_text(about, encoding="utf-8", newline="\n")
        record = {
            "schema": SCHEMA, "synthetic": True, "synthesiser": version, "settings": settings.resolved(),
            "parts": dict(Counter(row["split"] for row in rows)), "seconds": sum(row["duration"] for row in rows),
            "left_out": left_out, "sources": sources, "sha256": digest.sha256_bytes(content.encode()),
        }  # fmt: skip
        digest.write_json(temporary / RECORD, record)
        shutil.rmtree(out, ignore_errors=True)
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return record


def _speak_sentence(
    sentence: Sentence, number: int, settings: SynthesisSettings, version: str, folder: Path
) -> dict[str, Any]:
    """Write one FLAC file and return its metadata row."""
    import soundfile

    voice = settings.voices[number % len(settings.voices)]
    name = f"synthetic_{number:05}_{voice.replace('+', '-')}"
    wav, flac = folder / f"{name}.wav", folder / f"{name}.flac"
    espeak.speak_phonemes(sentence.phonemes, voice, settings.speed, wav)
    samples, rate = soundfile.read(wav, dtype="int16")
    soundfile.write(flac, samples, rate, format="FLAC", subtype="PCM_16")
    wav.unlink()
    return {
        "id": name, "audio": flac.name, "duration": round(len(samples) / rate, 3), "sample_rate": rate, "lang": "bm",
        "speaker": f"synthetic {voice}", "synthetic": True, "synthesiser": version, "text": sentence.latin,
        "text_nko": sentence.nko, "phonemes": sentence.phonemes, "source": sentence.source, "split": sentence.part,
        "sha256": digest.sha256_file(flac),
    }  # fmt: skip


def _check_output_folder(out: Path) -> None:
    """Raise CorpusError if the folder has content that this module did not make."""
    record = out / RECORD
    is_synthetic = record.is_file() and f'"schema": "{SCHEMA}"' in record.read_text(encoding="utf-8", errors="replace")
    if out.exists() and not is_synthetic and (not out.is_dir() or any(out.iterdir())):
        raise CorpusError(f"{out}: exists and was not made by this command", fix="give another folder with --out")
