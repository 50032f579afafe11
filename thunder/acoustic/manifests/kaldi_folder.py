"""A data folder of Kaldi: wav.scp, text, utt2spk and segments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thunder.corpora.rows.jsonl_lines import LineFaults
from thunder.errors import CorpusError

WAV_SCP = "wav.scp"


def read_kaldi_folder(folder: Path, faults: LineFaults) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, fields) of each utterance: a line of `segments`, or of `wav.scp` if there is none.

    A pipe in `wav.scp`, a segment of an unknown recording, and a text without a recording are faults.
    """
    paths = _table(folder / WAV_SCP, required=True)
    texts, speakers = _table(folder / "text"), _table(folder / "utt2spk")
    utterances: dict[str, dict[str, Any]] = {}
    if (folder / "segments").is_file():
        for name, value in _table(folder / "segments").items():
            parts = value.split()
            if len(parts) not in (3, 4) or parts[0] not in paths:
                faults.add(f"{folder / 'segments'}: {name}: expected RECORDING START END of {WAV_SCP}, found {value!r}")
                continue
            start, end = parts[1:3]
            # -1: to the end of the recording
            utterances[name] = {"audio": paths[parts[0]], "start": start} | ({} if end == "-1" else {"end": end})
    else:
        utterances = {name: {"audio": path} for name, path in paths.items()}
    for name, fields in utterances.items():
        where = f"{folder / WAV_SCP}: {name}"
        if fields["audio"].endswith("|"):
            faults.add(f"{where}: is the output of a command; write it to a file, and name the file")
            continue
        optional = {"text": texts.get(name), "speaker": speakers.get(name)}
        yield where, {"id": name} | fields | {key: value for key, value in optional.items() if value is not None}
    for name in texts.keys() - utterances.keys():
        faults.add(f"{folder / 'text'}: {name}: has a text, but no recording")


def _table(path: Path, required: bool = False) -> dict[str, str]:
    """key -> the rest of its line. An absent file is empty, unless it is required. Raises CorpusError."""
    if not required and not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read: {error}", "give a data folder of Kaldi in UTF-8") from None
    parts = (line.strip().partition(" ") for line in (line.replace("\t", " ", 1) for line in lines) if line.strip())
    return {key: rest.strip() for key, _, rest in parts}
