"""Translate path options, so that every host of a cluster finds its own copy of a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, get_origin

from thunder.config import REPOSITORY, Settings, SettingsType
from thunder.errors import UsageError

PATH_OPTIONS = ("data", "train_data", "valid_data", "test_data", "adapter_path", "resume_adapter_file")
PATH_OPTIONS += ("text_root", "exclude_rows", "out", "start_from", "features", "split", "hypothesis", "texts")


def state_folder() -> Path:
    """Folder of the state that this machine keeps between runs: THUNDER_STATE, else ~/.local/state/thunder."""
    return Path(os.environ.get("THUNDER_STATE") or "~/.local/state/thunder").expanduser()


def check_writable(path: Path) -> None:
    """Raises UsageError where a folder of this path could not be written: better said before training than after."""
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UsageError(f"{path}: {there} is no folder that can be written to", fix="name another folder")


def portable_paths(settings: SettingsType) -> SettingsType:
    """Write absolute paths for other hosts: relative to the project's folder, else below ~, else unchanged."""
    values = {name: _each(getattr(settings, name), _portable) for name in path_options(settings)}
    model = getattr(settings, "model", None)
    if model and Path(model).is_absolute():
        values["model"] = _portable(model)
    return settings.model_copy(update=values)


def local_paths(settings: SettingsType) -> SettingsType:
    """Read paths on this host; a model that is no folder here stays the name of a repository."""
    values = {name: _each(getattr(settings, name), _placed) for name in path_options(settings)}
    model = getattr(settings, "model", None)
    if model and (model.startswith(("/", "~", ".")) or Path(_placed(model)).exists()):
        values["model"] = _placed(model)
    return settings.model_copy(update=values)


def path_options(settings: Settings) -> list[str]:
    """The options that are paths: a choice between words is none, as the `split` of rows beside a recognizer's file."""
    known = type(settings).model_fields
    return [name for name in PATH_OPTIONS if name in known and get_origin(known[name].annotation) is not Literal]


def _portable(text: str) -> str:
    path = Path(text)
    # a name that begins with ~ would be read as a home folder
    if path.is_relative_to(REPOSITORY) and not (inside := str(path.relative_to(REPOSITORY))).startswith("~"):
        return inside
    if path.is_relative_to(Path.home()):
        return f"~/{path.relative_to(Path.home())}"
    return text


def _placed(text: str) -> str:
    return str(REPOSITORY / Path(text).expanduser())


def _each(value: Any, change: Any) -> Any:
    """Change a path option or each of a list of paths; an option without a value stays without."""
    if isinstance(value, list):
        return [change(each) for each in value]
    return change(value) if value else value
