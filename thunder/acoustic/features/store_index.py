"""Metadata of a feature store: an index of shards, and a list of utterances beside each shard."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.errors import ArtifactError
from thunder.training.checkpoints import checkpoint_manifest

SCHEMA = "thunder.features/1"
INDEX = "index.json"
FIX = "run `thunder asr features` again with the same options: it keeps complete shards and makes the others again"


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording: frames as stored, seconds of audio; extra: the other fields of its metadata row."""

    id: str
    frames: int
    seconds: float
    text: str | None = None
    speaker: str | None = None
    split: str | None = None
    audio_sha256: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ShardEntry:
    """A finished shard: its file (relative to the store) and list, with sizes and digests.

    begins, rows: the range of input rows that it covers. left_out: (id, fault) of rows in this range that it lacks.
    """

    file: str
    bytes: int
    sha256: str
    frames: int
    utterances: int
    seconds: float
    begins: int
    rows: int
    left_out: tuple[tuple[str, str], ...] = ()
    list_sha256: str = ""

    @property
    def list_file(self) -> str:
        """The file that lists its utterances."""
        return self.file.removesuffix(".safetensors") + ".jsonl"

    def as_dict(self) -> dict[str, Any]:
        """JSON values for the list's first line."""
        return {name: value for name, value in asdict(self).items() if name != "list_sha256"}

    def for_index(self, folder: str = "") -> dict[str, Any]:
        """JSON values for the index; `folder`: prefix of the file name, relative to the index."""
        values = {name: getattr(self, name) for name in ("bytes", "sha256", "frames", "utterances", "list_sha256")}
        return {"file": folder + self.file} | values


def utterance_line(utterance: Utterance, crc32: int) -> str:
    """An utterance as a line of a list; fields without a value are omitted."""
    values = {
        name: getattr(utterance, name)
        for name in ("id", "frames", "seconds", "text", "speaker", "split", "audio_sha256")
        if getattr(utterance, name) is not None
    }
    if utterance.extra:
        values["extra"] = dict(utterance.extra)
    return json.dumps(values | {"crc32": crc32}, ensure_ascii=False, allow_nan=False) + "\n"


def write_list(folder: Path, entry: ShardEntry, recipe_digest: str, lines: Iterable[str]) -> None:
    """Write the list of a finished shard: a line that describes the shard, then a line for each utterance."""
    body = "".join(lines)
    head = {"schema": SCHEMA, "recipe": recipe_digest, "lines_sha256": digest.sha256_bytes(body.encode())}
    text = json.dumps(head | entry.as_dict(), ensure_ascii=False) + "\n" + body
    digest.write_atomically(folder / entry.list_file, text)


def read_list_head(folder: Path, list_file: str) -> tuple[str, ShardEntry]:
    """Recipe digest and entry of a finished shard, from the first line of its list.

    Raises ArtifactError if the list is missing or damaged.
    """
    path = folder / list_file
    try:
        with path.open("rb") as stream:
            first, rest = stream.readline(), stream.read()
        head = json.loads(first)
        check_schema(head, path)
        if digest.sha256_bytes(rest) != head["lines_sha256"]:
            raise ValueError("its lines differ from those that were written")
        recipe = head["recipe"]
        left_out = tuple((name, fault) for name, fault in head["left_out"])
        values: dict[str, Any] = {name: head[name] for name in ShardEntry.__dataclass_fields__ if name in head}
        values |= {"left_out": left_out, "list_sha256": digest.sha256_bytes(first + rest)}
        return recipe, ShardEntry(**values)
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}", FIX) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: damaged: {error}", FIX) from None


def read_utterances(path: Path, sha256: str) -> Iterator[tuple[Utterance, int]]:
    """The utterances of a list and their CRC-32. Raises ArtifactError if it is missing or its digest differs."""
    actual = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            actual.update(stream.readline())
            for number, line in enumerate(stream, start=2):
                actual.update(line)
                yield _utterance(line, f"{path}:{number}")
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}: a list that the index names", FIX) from None
    if actual.hexdigest() != sha256:
        raise ArtifactError(
            f"{path}: sha256 is {actual.hexdigest()[:16]}..., the index says {sha256[:16]}...: changed or truncated",
            FIX,
        )


def _utterance(line: bytes, where: str) -> tuple[Utterance, int]:
    try:
        values = json.loads(line)
        crc32 = values.pop("crc32")
        return Utterance(**values), crc32
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{where}: damaged: {error}", FIX) from None


def write_index(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write index.json with its own checksum, which marks the store as complete; return it as written."""
    text = checkpoint_manifest.render_manifest({"schema": SCHEMA} | dict(content))
    digest.write_atomically(folder / INDEX, text)
    return json.loads(text)


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a store. Raises ArtifactError if it is missing, truncated, edited or has another schema."""
    path = folder / INDEX
    try:
        text = path.read_bytes()
    except OSError as error:
        parts = sorted(index.parent.name for index in folder.glob(f"part-*/{INDEX}"))
        if parts:
            raise ArtifactError(
                f"{folder}: holds {', '.join(parts)}, not merged yet", f"thunder asr merge {folder}"
            ) from None
        raise ArtifactError(f"{path}: {error.strerror}: the features are not complete", FIX) from None
    try:
        content = json.loads(text)
        check_schema(content, path)
        is_unchanged = checkpoint_manifest.render_manifest(content) == text
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path}: damaged: {error}", FIX) from None
    if not is_unchanged:
        raise ArtifactError(f"{path}: was edited or is damaged: its checksum does not match its content", FIX)
    return content


def check_schema(content: Any, path: Path) -> None:
    """Raise ArtifactError if the JSON value has another schema."""
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ArtifactError(f"{path}: is not part of a feature store ({SCHEMA})", FIX)
