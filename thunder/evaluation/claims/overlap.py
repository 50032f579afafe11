"""Find the overlap of training and validation rows: rows, texts, passages and recordings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thunder.corpora.rows.jsonl_lines import JsonLines, LineFaults
from thunder.corpora.splits import near_duplicates
from thunder.corpora.splits.near_duplicates import comparable_key

RUN_WORDS = 13  # a shared run of this many words is not chance, whatever its length in characters
_IDS = ("feat_id", "audio_id", "row_id", "id", "utt_id")
_AUDIO = ("audio_sha256", "audio_id")
_TEXTS = ("reference_text", "text", "sentence", "transcript")


@dataclass(frozen=True)
class Overlap:
    """Counts of validation rows that are also in training.

    rows: equal in id and text. texts: equal in text. near: further ones that share a passage. audios: validation rows
    whose recording is in training, with any text. example: the id of one of `rows`, or of `texts` where there is none.
    """

    validation: int
    rows: int
    texts: int
    near: int
    example: str = ""
    audios: int = 0


def find_overlap(train: Path, val: Path) -> Overlap:
    """Compare two JSONL files of rows (ChatML, correction rows, or rows of a recognizer).

    Raises CorpusError where a file cannot be read, or where a line is not a row with a text.
    """
    validation = list(_read_texts(val))
    keys = [comparable_key(text) for _, text, _ in validation]
    whole = {key: number for number, key in enumerate(keys)}
    by_row = {(name, key): number for number, ((name, _, _), key) in enumerate(zip(validation, keys, strict=True))}
    recordings = {audio: number for number, (_, _, audio) in enumerate(validation) if audio}
    characters = near_duplicates.HeldOutHashes()
    characters.add(range(len(keys)), keys)
    runs = {run: number for number, key in enumerate(keys) for run in _word_runs(key)}
    same: set[int] = set()
    texts: set[int] = set()
    near: set[int] = set()
    recorded: set[int] = set()
    for batch in near_duplicates.batch_by_length(_read_texts(train)):
        train_keys = [comparable_key(text) for _, text, _ in batch]
        recorded |= {recordings[audio] for _, _, audio in batch if audio in recordings}
        for (name, _, _), key, shared in zip(batch, train_keys, characters.shared_with(train_keys), strict=True):
            if (row := by_row.get((name, key))) is not None:
                same.add(row)
            if key in whole:
                texts.add(whole[key])
            near |= {shared} if shared is not None else set()
            near |= {runs[run] for run in _word_runs(key) if run in runs}
    first = min(same or texts, default=None)
    example = "" if first is None else f"{validation[first][0]!r}"
    return Overlap(len(validation), len(same), len(texts), len(near - texts), example, len(recorded))


def _word_runs(key: str) -> Iterator[tuple[str, ...]]:
    words = key.split()
    return (tuple(words[at : at + RUN_WORDS]) for at in range(len(words) - RUN_WORDS + 1))


def _read_texts(path: Path) -> Iterator[tuple[str, str, str | None]]:
    """(id, text, recording) of each row; a row without an id has its recognized text as the id."""
    faults = LineFaults()
    for number, line in JsonLines(path, faults):
        row = _parse_object(line)
        text = _row_text(row)
        if text is None:
            faults.add(f"{path}:{number}: not a row with a text ({', '.join(_TEXTS)}, or messages)")
            continue
        recognized = row.get("asr_text") or _turn_content(row, 0) or ""
        audio = next((str(row[key]) for key in _AUDIO if row.get(key)), None)
        yield str(next((row[key] for key in _IDS if row.get(key)), recognized)), text, audio
    if faults:
        raise faults.error(f"{path}: cannot be compared:", "name the JSONL files of training and validation")


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
