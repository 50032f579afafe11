"""Map the option names of different configuration formats to one canonical name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

RENAMED = {
    "learning_rate": "lr",
    "batch_size": "batch",
    "max_steps": "iters",
    "num_iters": "iters",
    "epochs": "max_epochs",
    # options that had another name in earlier versions
    "window": "chunk_words",
    "unsafe_shape": "ignore_memory_check",
}
_OWN_OPTION = "steps_per_report"  # an option of every training run of this program


def canonical_name(name: str) -> str:
    """Return the canonical name of an option."""
    return RENAMED.get(name, name)


def with_canonical_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options under their canonical names; a cluster file is reduced to its name."""
    renamed = {canonical_name(key): value for key, value in options.items()}
    if (
        _OWN_OPTION in renamed and "max_epochs" in renamed
    ):  # there it is a limit above which a run is refused, not the training's length
        renamed["max_wraps"] = renamed.pop("max_epochs")
    if isinstance(path := renamed.get("cluster"), str):
        name = Path(path)
        renamed["cluster"] = name.stem if name.suffix in (".yaml", ".yml", ".json") else name.name
    return renamed
