"""Merge YAML files and flags into one frozen, validated settings object that records the source of each value."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic import Field as _Field

from thunder import digest
from thunder.errors import ConfigError, combined_error
from thunder.option_hints import best_hint

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = REPOSITORY / "configs"


class _Loader(yaml.SafeLoader):
    """YAML loader: `1e-5` is a number, `no` and `on` are text, and a duplicate key is an error.

    Integers are decimal: `010` and `1:30`, which YAML 1.1 reads as 8 and 90, stay text.
    """

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        """Check a mapping for duplicate keys as written, before merges (`<<`) add keys from elsewhere."""
        node = super().compose_mapping_node(anchor)
        line_of_key: dict[Any, int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                what = f"a {key_node.id} cannot be a key"
                raise yaml.MarkedYAMLError(None, None, what, key_node.start_mark)
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node)
            if key in line_of_key:
                what = f"key {key!r} stands on line {line_of_key[key]} and again on line {line}"
                raise yaml.MarkedYAMLError(None, None, what, key_node.start_mark)
            line_of_key[key] = line
        return node


_MERGE = "tag:yaml.org,2002:merge"
_RESOLVERS = {
    "tag:yaml.org,2002:int": (re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), "-+0123456789"),
    "tag:yaml.org,2002:float": (
        re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.[0-9]+(?:[eE][-+]?[0-9]+)?)$"),
        "-+0123456789.",
    ),
    "tag:yaml.org,2002:bool": (re.compile(r"^(?:true|True|false|False)$"), "tTfF"),
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _RESOLVERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, (_pattern, _first) in _RESOLVERS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, list(_first))


class _Dumper(yaml.SafeDumper):
    """Quotes texts that this loader would read as numbers, besides those that other readers would."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # unquoted, these Unicode line ends read back as a space; double quotes escape them
    style = '"' if set(text) & set("\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
_Dumper.yaml_implicit_resolvers = {key: list(pairs) for key, pairs in yaml.SafeDumper.yaml_implicit_resolvers.items()}
for _tag, (_pattern, _first) in _RESOLVERS.items():
    _Dumper.add_implicit_resolver(_tag, _pattern, list(_first))


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises ConfigError (with the line) where the file is missing, is not UTF-8, is not YAML or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", fix="give the path of a YAML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8", fix="save the file as UTF-8") from None
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(
            f"{where}: {getattr(error, 'problem', None) or error}", fix="correct the YAML there"
        ) from None
    except (ValueError, KeyError, RecursionError) as error:  # 2001-02-30, !!bool maybe, a thousand brackets
        raise ConfigError(f"{path}: {error}", fix="correct the YAML there") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: expected keys and values, found {type(content).__name__}", fix="write `key: value` lines"
        )
    return content


def dump_yaml(value: Mapping[str, Any]) -> str:
    """Dump a mapping as YAML in its order, with N'Ko unescaped; `load_yaml` reads back the same values."""
    return yaml.dump(dict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def option(
    default: Any,
    help: str,
    *,
    aliases: Iterable[str] = (),
    old_names: Iterable[str] = (),
    panel: str = "Training",
    added_later: bool = False,
    value_before: Any = None,
    **limits: Any,
) -> Any:
    """Declare an option: default, help text, aliases, panel in --help, and pydantic's limits.

    The flag `--lora-rank`, the YAML key `lora_rank` and the help all come from this declaration.

    added_later: the option came after version 0.1.0; at its default it is no part of `Settings.digest`, so that the
    digests in older checkpoints stay valid. value_before: the value that does what was done before the option came,
    where that is not the default; see `with_values_before`.
    """
    extra: Any = {
        "aliases": list(aliases), "old_names": list(old_names), "panel": panel,
        "added_later": added_later, "value_before": value_before,
    }  # fmt: skip
    return _Field(default, description=help, json_schema_extra=extra, **limits)


class Settings(BaseModel):
    """Base of all settings classes: frozen, no coercion from text, no unknown keys, every default explicit."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, values: Any) -> Any:
        return with_current_names(cls, values) if isinstance(values, dict) else values

    def resolved(self) -> dict[str, Any]:
        """Return all values, defaults included, as JSON types."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """Return the SHA-256 of the resolved values."""
        return self.digest_without(())

    def digest_without(self, left_out: Container[str]) -> str:
        """SHA-256 of the resolved values, but for those of some fields.

        Checkpoints that store the digest stay valid: a renamed field counts under its oldest name, and an option that
        was added later counts only where it is not at its default.
        """
        kind = type(self)
        oldest = {field: names[0] for field in kind.model_fields if (names := old_names_of(kind, field))}
        values = {
            field: value
            for field, value in self.resolved().items()
            if field not in left_out and not self._is_added_at_default(field)
        }
        return digest.sha256_json({oldest.get(field, field): value for field, value in values.items()})

    def _is_added_at_default(self, field: str) -> bool:
        extra = type(self).model_fields[field].json_schema_extra
        if not isinstance(extra, dict) or not extra.get("added_later"):
            return False
        value, before = getattr(self, field), extra.get("value_before")
        return value == type(self).model_fields[field].default or (before is not None and value == before)


SettingsType = TypeVar("SettingsType", bound=Settings)


@dataclass(frozen=True)
class SettingsLayer:
    """Values from one source, such as a preset file or the command line; later layers override earlier ones.

    notes: values that are accepted but have no effect here, one sentence each, for the plan.
    """

    source: str
    values: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def option_names(kind: type[Settings]) -> dict[str, str]:
    """Return every name (field or alias, in snake case) -> the field that it sets."""
    names = {field: field for field in kind.model_fields}
    for field in kind.model_fields:
        names |= {name: field for name in [*_extra_names(kind, field, "aliases"), *old_names_of(kind, field)]}
    return names


def old_names_of(kind: type[Settings], field: str) -> list[str]:
    """The names that a field had before, in snake case, the oldest first."""
    return _extra_names(kind, field, "old_names")


def with_values_before(kind: type[Settings], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that an earlier version stored, with the values that do the same for options that came later."""
    extras = {field: info.json_schema_extra for field, info in kind.model_fields.items()}
    before = {field: extra.get("value_before") for field, extra in extras.items() if isinstance(extra, dict)}
    return {field: value for field, value in before.items() if value is not None and field not in stored} | {**stored}


def with_current_names(kind: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings with each old name replaced by its field's; both names in one mapping stay as they are."""
    fields = {name: field for field in kind.model_fields for name in old_names_of(kind, field)}
    return {fields[key] if key in fields and fields[key] not in values else key: value for key, value in values.items()}


def _extra_names(kind: type[Settings], field: str, key: str) -> list[str]:
    extra = kind.model_fields[field].json_schema_extra
    names = extra.get(key, ()) if isinstance(extra, dict) else ()
    assert isinstance(names, Iterable)
    return [str(name).replace("-", "_") for name in names]


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean ...?' for a misspelled or foreign name, or an empty text."""
    hint = best_hint(name, known)
    return f" Did you mean '{hint}'?" if hint else ""


def build_settings(kind: type[SettingsType], layers: Iterable[SettingsLayer]) -> tuple[SettingsType, dict[str, str]]:
    """Merge layers into settings; also return the source of each value (field -> source, or 'default').

    Raises ConfigError that lists every unknown key and every invalid value with its source.
    """
    names, values, sources, faults = option_names(kind), {}, {}, []
    current = [name for name, field in names.items() if name not in old_names_of(kind, field)]
    for layer in layers:
        keys_used: dict[str, str] = {}
        for key, value in layer.values.items():
            name = str(key).replace("-", "_")
            field = names.get(name)
            if field is None:
                faults.append(f"{layer.source}: unknown key '{key}'.{suggest_name(name, current)}")
            elif field in keys_used:
                faults.append(f"{layer.source}: '{key}' and '{keys_used[field]}' are the same option")
            else:
                keys_used[field] = str(key)
                values[field], sources[field] = value, layer.source
    # YAML and JSON write 1 for an integer and a float: accept it for a float
    for field, value in values.items():
        if (
            isinstance(value, int)
            and not isinstance(value, bool)
            and "float" in str(kind.model_fields[field].annotation)
        ):
            values[field] = float(value)
    try:
        settings = kind.model_validate(values)
    except ValidationError as error:
        for fault in error.errors():
            field = str(fault["loc"][0]) if fault["loc"] else ""
            given = "" if fault["type"] == "missing" else f", not {fault['input']!r}"
            message = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input ")
            faults.append(
                f"{sources.get(field, 'default')}: '{field}' {message}{given}" if field else f"settings: {message}"
            )
        settings = None
    if faults or settings is None:
        raise combined_error(
            ConfigError,
            "the configuration cannot be used:",
            faults,
            fix="correct these; `./launch.sh train --help` lists every option",
        )
    return settings, {field: sources.get(field, "default") for field in kind.model_fields}
