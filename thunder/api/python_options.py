"""Check and normalize the arguments that a Python caller gives."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thunder.errors import UsageError
from thunder.training.training_events import Callback

FilePath = str | os.PathLike[str]


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are not None; paths become text, as the settings classes store them."""
    return {name: _as_text(value) for name, value in options.items() if value is not None}


def input_paths(inputs: FilePath | Iterable[FilePath]) -> list[str]:
    """The paths as text; a single path is a list of one."""
    return [os.fspath(inputs)] if isinstance(inputs, (str, os.PathLike)) else [os.fspath(each) for each in inputs]


def check_callbacks(callbacks: Sequence[Callback]) -> None:
    """Raise UsageError, before anything is started, where an object cannot receive the events of a run."""
    if not isinstance(callbacks, Iterable):
        raise UsageError(f"callbacks: {callbacks!r} is not a list", fix="callbacks=[PrintLoss()]")
    for each in callbacks:
        if isinstance(each, type) or not isinstance(each, Callback):
            raise UsageError(
                f"callbacks: {each!r} is not an instance of a subclass of thunder.Callback",
                fix="class PrintLoss(thunder.Callback): ..., then callbacks=[PrintLoss()]",
            )


def _as_text(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return [_as_text(each) for each in value] if isinstance(value, (list, tuple)) else value
