"""Read files that users write before a run (a matrix, a hypothesis, a claim) into validated settings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from thunder.config import Settings, SettingsType, load_yaml, suggest_name
from thunder.errors import ConfigError, combined_error


def parse_spec(path: Path) -> dict[str, Any]:
    """Return the mapping in a .json or .yaml file.

    Raises ConfigError where it cannot be read, has another format, or repeats a key.
    """
    if path.suffix in (".yaml", ".yml"):
        return load_yaml(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_refuse_duplicate_keys)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", fix="give the path of a .json or .yaml file") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: {error.msg}", fix="correct the JSON") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}", fix="correct the JSON") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected an object, found {type(content).__name__}", fix='begin it with "{"')
    return content


def _refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"key {key!r} occurs twice in one object")
        content[key] = value
    return content


def validate_spec(kind: type[SettingsType], content: Mapping[str, Any], where: str) -> SettingsType:
    """Validate content as settings; 1 stands for 1.0 where a float is expected.

    Raises ConfigError that lists every fault with its place, the value and what was expected.
    """
    try:
        return kind.model_validate_json(json.dumps(content))
    except ValidationError as error:
        faults = [_fault_text(fault, kind) for fault in error.errors()]
    raise combined_error(ConfigError, f"{where}: cannot be used:", faults, fix=f"correct {where}")


def read_spec(kind: type[SettingsType], path: Path) -> SettingsType:
    """Read a file as settings. Raises as `parse_spec` and `validate_spec`."""
    return validate_spec(kind, parse_spec(path), str(path))


def _fault_text(fault: Any, kind: type[Settings]) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"]).lstrip(".")
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{place}'.{suggest_name(str(fault['loc'][-1]), _keys(kind, fault['loc'][:-1]))}"
    if fault["type"] == "missing":
        return f"'{place}' is missing"
    message = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return f"'{place}' {message}, not {fault['input']!r}" if place else message


def _keys(kind: type[BaseModel], place: tuple[Any, ...]) -> Iterable[str]:
    """Return the keys of the object at a place of the file."""
    for part in place:
        if isinstance(part, str) and part in kind.model_fields:
            inside = kind.model_fields[part].annotation
            kinds = [each for each in (inside, *get_args(inside)) if isinstance(each, type)]
            kind = next((each for each in kinds if issubclass(each, BaseModel)), kind)
    return kind.model_fields
