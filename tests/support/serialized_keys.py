"""Lists the keys that files and JSON values hold, so that two versions of a format can be compared."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

READ = (".json", ".jsonl", ".yaml", ".safetensors")


def keys_of_value(value: Any, prefix: str = "") -> set[str]:
    """The path of every key below a JSON value, such as `test.by[].rows`; the items of a list share one path."""
    if isinstance(value, dict):
        inside = {f"{prefix}.{key}" if prefix else str(key): each for key, each in value.items()}
        return set(inside).union(*(keys_of_value(each, path) for path, each in inside.items()))
    if isinstance(value, list):
        return set().union(*(keys_of_value(each, f"{prefix}[]") for each in value))
    return set()


def keys_of_file(path: Path) -> set[str]:
    """The keys of a JSON, JSONL, YAML or safetensors file; of the last, tensor names and the names of metadata."""
    if path.suffix == ".safetensors":
        with path.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        metadata = header.pop("__metadata__", None) or {}
        settings = json.loads(metadata.get("settings", "{}"))
        return {*header, *(f"metadata.{key}" for key in metadata), *keys_of_value(settings, "metadata.settings")}
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return set().union(*(keys_of_value(json.loads(line)) for line in text.splitlines() if line.strip()))
    return keys_of_value(json.loads(text) if path.suffix == ".json" else yaml.safe_load(text))


def keys_of_folder(folder: Path) -> dict[str, list[str]]:
    """File name -> keys, for every file of a folder but hidden ones; no keys for other kinds of files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(part.startswith(".") for part in name.split("/")):
            found[name] = sorted(keys_of_file(path)) if path.suffix in READ else []
    return found


def missing_keys(before: Iterable[str], now: Iterable[str], renamed: dict[str, str]) -> list[str]:
    """The keys of `before` that `now` lacks, after each part of a path took its new name from `renamed`."""
    present = set(now)

    def today(key: str) -> str:
        return ".".join(renamed.get(part, part) for part in key.split("."))

    return sorted(key for key in before if key not in present and today(key) not in present)
