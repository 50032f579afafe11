"""Read the open text that a base model is pretrained on, without lines that share text with test rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from thunder.corpora.rows import chat_rows as correction_rows
from thunder.errors import CorpusError
from thunder.lora.lora_settings import PretrainSettings
from thunder.text.normalize import normalize_text

WINDOW = 32  # code points; a run of 2 * WINDOW shared with an excluded row is always found


@dataclass(frozen=True)
class OpenText:
    """Lines of open text, split by hash. excluded: number of lines that share text with excluded rows."""

    train: tuple[str, ...]
    heldout: tuple[str, ...]
    excluded: int


def read_open_text(settings: PretrainSettings) -> OpenText:
    """Read, normalize and split the text files.

    Raises CorpusError where a file or its column is missing, with the file and line.
    """
    lines: dict[str, None] = {}
    for name in settings.text:
        lines |= dict.fromkeys(_column(Path(settings.text_root) / name, settings.column, set(settings.exclude_domains)))
    forbidden, windows = _forbidden(settings.exclude_rows)
    train, heldout, excluded = [], [], 0
    for line in lines:
        if line in forbidden or any(line[i : i + WINDOW] in windows for i in range(len(line) - WINDOW + 1)):
            excluded += 1
        elif int.from_bytes(hashlib.sha256(line.encode()).digest()[:8]) / 2**64 < settings.heldout:
            heldout.append(line)
        else:
            train.append(line)
    if not train or not heldout:
        raise CorpusError(
            f"{settings.text_root}: {len(train)} lines to train on, {len(heldout)} held out", fix="name more text"
        )
    heldout.sort(key=lambda line: hashlib.sha256(line.encode()).digest())
    return OpenText(tuple(train), tuple(heldout[: settings.heldout_lines]), excluded)


def _column(path: Path, column: str, excluded_domains: set[str]) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", newline="\n") as stream:
            header = stream.readline().rstrip("\n").split("\t")
            if column not in header:
                raise CorpusError(
                    f"{path}:1: no column '{column}' among {', '.join(header)}", fix="name the column with --column"
                )
            place, domain = header.index(column), header.index("domain") if "domain" in header else None
            for number, line in enumerate(stream, 2):
                cells = line.rstrip("\n").split("\t")
                if len(cells) != len(header):
                    raise CorpusError(
                        f"{path}:{number}: {len(cells)} cells, the header has {len(header)}", fix="correct the row"
                    )
                text = normalize_text(cells[place]).strip()
                if text and (domain is None or cells[domain] not in excluded_domains):
                    yield text
    except OSError as error:
        raise CorpusError(
            f"{path}: {error.strerror}", fix="put the text collection there, or give --text-root"
        ) from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: byte {error.start} of a block is not UTF-8", fix="save the file as UTF-8") from None


def _forbidden(names: Sequence[str]) -> tuple[set[str], set[str]]:
    """Whole texts, and the windows at every WINDOW code points, of the excluded correction rows."""
    texts: set[str] = set()
    for name in names:
        path = Path(name)
        for file in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:
            for row in correction_rows.read_rows(file).rows:
                texts |= {normalize_text(text).strip() for text in (row.asr_text, row.reference)}
    return texts, {text[i : i + WINDOW] for text in texts for i in range(0, len(text) - WINDOW + 1, WINDOW)}
