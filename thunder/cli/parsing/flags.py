"""Flags from settings: each field of a settings class becomes a flag with its aliases, its help and its default."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from thunder.config import Settings, old_names_of
from thunder.errors import UsageError

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML file of options; a run's config.yaml is one.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Print the plan and end.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the plan (with --dry-run) or the results as JSON on stdout.")
]


def flag_type(annotation: Any) -> tuple[Any, bool]:
    """A field's type as typer reads it, and whether it is a switch: `int | None` -> int, Literal -> str."""
    if get_origin(annotation) in (types.UnionType, typing.Union):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is typing.Literal:
        return str, False
    if get_origin(annotation) is list:
        return list[get_args(annotation)[0]], False
    return annotation, annotation is bool


def flags(
    kind: type[Settings], further: Mapping[str, tuple[type, str]] | None = None, panel: str = "Options"
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: give a command the flags of a settings class.

    further: flags that set no field, name -> (type, help), in a panel of their own; their values are given too.

    The command is called with its own parameters and `given`, the values that were said (field -> value). The names
    that a field had before (`option(..., old_names=...)`) stay flags, which help does not list.

    The command raises UsageError where two names of one option are given.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "given"]
        derived = [_parameter(field, info) for field, info in kind.model_fields.items()]
        hidden = {name: field for field in kind.model_fields for name in old_names_of(kind, field)}
        derived += [_hidden_parameter(name, kind.model_fields[field]) for name, field in hidden.items()]
        derived += [_further_parameter(name, each, text, panel) for name, (each, text) in (further or {}).items()]

        def command(**values: Any) -> None:
            mine = {p.name: values.pop(p.name) for p in own}
            given = {name: value for name, value in values.items() if value is not None and value != []}
            function(**mine, given=_under_fields(given, hidden))

        command.__doc__ = function.__doc__
        command.__name__ = function.__name__
        command.__signature__ = inspect.Signature([*own, *derived])  # type: ignore[attr-defined]
        command.settings = kind  # type: ignore[attr-defined] - the reference pages list its fields
        return command

    return decorate


def _parameter(field: str, info: Any) -> inspect.Parameter:
    extra = info.json_schema_extra
    kind, switch = flag_type(info.annotation)
    names = [field.replace("_", "-"), *extra["aliases"]]
    declared = [f"--{name}/--no-{name}" for name in names] if switch else [f"--{name}" for name in names]
    shown = "" if info.is_required() or info.default in (None, [], False) else f" (default: {_shown(info.default)})"
    annotation = Annotated[
        kind | None,
        typer.Option(*declared, help=info.description + shown, rich_help_panel=extra["panel"], show_default=False),
    ]
    return inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _hidden_parameter(name: str, info: Any) -> inspect.Parameter:
    """The flag of an option's old name; help does not list it."""
    kind, switch = flag_type(info.annotation)
    flag = name.replace("_", "-")
    declared = f"--{flag}/--no-{flag}" if switch else f"--{flag}"
    annotation = Annotated[kind | None, typer.Option(declared, hidden=True, show_default=False)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _further_parameter(name: str, kind: type, text: str, panel: str) -> inspect.Parameter:
    """A flag that sets no field; a switch has no negative."""
    declared = typer.Option(f"--{name.replace('_', '-')}", help=text, rich_help_panel=panel, show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, declared]
    )


def _under_fields(given: dict[str, Any], hidden: dict[str, str]) -> dict[str, Any]:
    """The given values under their fields. hidden: old name -> field. Raises UsageError where one is given twice."""
    values: dict[str, Any] = {}
    for name, value in given.items():
        field = hidden.get(name, name)
        if field in values:
            flag = field.replace("_", "-")
            text = f"--{name.replace('_', '-')} and --{flag} are the same option"
            raise UsageError(text, fix=f"give --{flag} alone")
        values[field] = value
    return values


def _shown(value: Any) -> str:
    if value is True:
        return "yes"
    return (
        ", ".join(map(str, value))
        if isinstance(value, list)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
