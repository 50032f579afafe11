"""Merge the parts of a feature store that several hosts made from one input, under one index."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from thunder.acoustic.features.store import FeatureStore
from thunder.acoustic.features.store_index import INDEX, read_index, write_index
from thunder.errors import ArtifactError, UsageError, combined_error

_PART = re.compile(r"([1-9]\d*)/([1-9]\d*)")


def parse_part(text: str) -> tuple[int, int]:
    """'2/3' -> (2, 3). Raises UsageError for any other format, and if I is greater than N."""
    match = _PART.fullmatch(text)
    number, count = (int(match[1]), int(match[2])) if match else (1, 0)
    if number > count:
        raise UsageError(f"--part {text!r}: expected I/N with I from 1 to N", "such as --part 1/2 on one of two hosts")
    return number, count


def part_folder(out: Path, part: tuple[int, int]) -> Path:
    """The folder of a part: `out` itself if there is only one part."""
    return out if part == (1, 1) else out / f"part-{part[0]}-of-{part[1]}"


def merge_parts(out: Path) -> dict[str, Any]:
    """Write one index over parts in sibling folders and return it; shards are not moved.

    Raises UsageError if there are no finished parts. Raises ArtifactError if a part is missing or damaged, if the parts
    have different inputs or recipes, or if an utterance is in two of them.
    """
    folders = sorted((path.parent for path in out.glob(f"part-*-of-*/{INDEX}")), key=_order)
    if not folders:
        raise UsageError(f"{out}: holds no finished parts", f"thunder asr features --part 1/2 --out {out} ...")
    contents = {folder.name: read_index(folder) for folder in folders}
    faults = _missing_parts(list(contents)) + _inconsistent_parts(contents)
    if not faults:
        names: Counter[str] = Counter()
        for folder in folders:
            names.update(utterance.id for utterance in FeatureStore.open(folder).utterances)
        faults = [f"utterance {name!r} is in {count} parts" for name, count in names.items() if count > 1]
    if faults:
        fix = "gather all parts of one extraction, made with the same input and options, in one folder"
        raise combined_error(ArtifactError, f"the parts in {out} cannot be merged:", faults, fix)
    first = next(iter(contents.values()))
    totals = {name: sum(content[name] for content in contents.values()) for name in _TOTALS}
    shards = [
        shard | {"file": f"{name}/{shard['file']}"} for name, content in contents.items() for shard in content["shards"]
    ]
    shared = {name: first[name] for name in ("recipe", "recipe_digest", "width")}
    plan = {name: value for name, value in first["plan"].items() if name != "part"}
    return write_index(out, {**shared, "plan": plan, "shards": shards, **totals})


_TOTALS = ("utterances", "frames", "seconds", "left_out")


def _order(folder: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", folder.name))


def _missing_parts(names: list[str]) -> list[str]:
    counts = {int(name.rpartition("-")[2]) for name in names}
    if len(counts) > 1:
        return [f"they belong to divisions into {', '.join(map(str, sorted(counts)))}"]
    count = counts.pop()
    expected = [f"part-{number}-of-{count}" for number in range(1, count + 1)]
    return [f"{name} is missing or incomplete" for name in expected if name not in names]


def _inconsistent_parts(contents: dict[str, dict[str, Any]]) -> list[str]:
    (first, content), *rest = contents.items()
    keys = ("recipe_digest", "width")
    faults = [
        f"{name} has another {key} than {first}"
        for name, other_content in rest
        for key in keys
        if content[key] != other_content[key]
    ]
    return faults + [
        f"{name} has other input than {first}"
        for name, other_content in rest
        if content["plan"].get("inputs") != other_content["plan"].get("inputs")
    ]
