"""What training rows and validation rows have in common: rows, texts, stretches of text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thunder.corpora.rows.jsonl_lines import JsonLines, LineFaults
from thunder.corpora.splits import near_duplicates
from thunder.corpora.splits.near_duplicates import comparable_key

RUN_WORDS = 13  # a shared run of so many words is no chance, whatever their length in characters
_IDS = ("feat_id", "audio_id", "row_id", "id", "utt_id")
_AUDIO = ("audio_sha256", "audio_id")
_TEXTS = ("reference_text", "text", "sentence", "transcript")


@dataclass(frozen=True)
class Overlap:
    """Validation rows that are training rows (by id and text); texts that stand in both; more that share a stretch.

    audios: validation rows whose recording stands in training, with whatever text. example: one of the first, or of the
    second where there is none.
    """

    validation: int
    rows: int
    texts: int
    near: int
    example: str = ""
    audios: int = 0


def find_overlap(train: Path, val: Path) -> Overlap:
    """Compare two JSONL files of rows (ChatML, correction rows, or rows of a recogniser).

    Raises CorpusError where a file cannot be read, or a line of it is no row with a text.
    """
    held = list(_read_texts(val))
    keys = [comparable_key(text) for _, text, _ in held]
    whole = {key: number for number, key in enumerate(keys)}
    by_row = {(name, key): number for number, ((name, _, _), key) in enumerate(zip(held, keys, strict=True))}
    recordings = {audio: number for number, (_, _, audio) in enumerate(held) if audio}
    characters = near_duplicates.HeldOutHashes()
    characters.add(range(len(keys)), keys)
    runs = {run: number for number, key in enumerate(keys) for run in _word_runs(key)}
    same: set[int] = set()
    texts: set[int] = set()
    near: set[int] = set()
    heard: set[int] = set()
    for batch in near_duplicates.batch_by_length(_read_texts(train)):
        theirs = [comparable_key(text) for _, text, _ in batch]
        heard |= {recordings[audio] for _, _, audio in batch if audio in recordings}
        for (name, _, _), key, shared in zip(batch, theirs, characters.shared_with(theirs), strict=True):
            if (row := by_row.get((name, key))) is not None:
                same.add(row)
            if key in whole:
                texts.add(whole[key])
            near |= {shared} if shared is not None else set()
            near |= {runs[run] for run in _word_runs(key) if run in runs}
    first = min(same or texts, default=None)
    example = "" if first is None else f"{held[first][0]!r}"
    return Overlap(len(held), len(same), len(texts), len(near - texts), example, len(heard))


def _word_runs(key: str) -> Iterator[tuple[str, ...]]:
    words = key.split()
    return (tuple(words[at : at + RUN_WORDS]) for at in range(len(words) - RUN_WORDS + 1))


def _read_texts(path: Path) -> Iterator[tuple[str, str, str | None]]:
    """(id, text, recording) of each row; the id is what was heard, where a row has none."""
    faults = LineFaults()
    for number, line in JsonLines(path, faults):
        row = _parse_object(line)
        text = _row_text(row)
        if text is None:
            faults.add(f"{path}:{number}: no row with a text ({', '.join(_TEXTS)}, or messages)")
            continue
        heard = row.get("asr_text") or _turn_content(row, 0) or ""
        audio = next((str(row[key]) for key in _AUDIO if row.get(key)), None)
        yield str(next((row[key] for key in _IDS if row.get(key)), heard)), text, audio
    if faults:
        raise faults.error(f"{path}: cannot be compared:", "name the JSONL files that were trained and validated on")


def _parse_object(line: bytes) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _row_text(row: dict[str, Any]) -> str | None:
    text = next((row[key] for key in _TEXTS if isinstance(row.get(key), str)), None)
    return _turn_content(row, -1) if text is None else text


def _turn_content(row: dict[str, Any], place: int) -> str | None:
    """The content of the first or last turn of a chat."""
    turns = row.get("messages")
    if not isinstance(turns, Sequence) or not turns or not isinstance(turns[place], dict):
        return None
    content = turns[place].get("content")
    return content if isinstance(content, str) else None
