"""The settings of a new or a resumed run, and the check that a resumed run has not changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thunder.config import (
    Settings,
    SettingsLayer,
    SettingsType,
    build_settings,
    load_yaml,
    with_current_names,
    with_values_before,
)
from thunder.errors import ConfigError, UsageError, combined_error
from thunder.launcher.options.setting_paths import path_options
from thunder.launcher.plan import Plan, read_plan
from thunder.launcher.runs_folder import runs
from thunder.runs.records import run_record
from thunder.training.loop_settings import RUNTIME_OPTIONS


def new_settings(
    kind: type[SettingsType], layers: Sequence[SettingsLayer]
) -> tuple[SettingsType, dict[str, str], tuple[str, ...]]:
    """Settings of a new run with their sources and the layers' notes.

    Its paths are made absolute, so that it can be continued from any folder.

    Raises ConfigError where a value is wrong, or a file asks to resume.
    """
    settings, sources = build_settings(kind, layers)
    if settings.resolved().get("resume"):
        raise ConfigError(f"{sources['resume']}: 'resume' is no option of a file", fix="./launch.sh resume RUN")
    values = {name: absolute_path(getattr(settings, name)) for name in path_options(settings)}
    return settings.model_copy(update=values), sources, tuple(note for layer in layers for note in layer.notes)


def absolute_path(value: str | list[str] | None) -> Any:
    """Make a path option or each of a list of paths absolute; an option without a value stays without."""
    if isinstance(value, list):
        return [absolute_path(each) for each in value]
    return str(Path(value).expanduser().absolute()) if value else value


def resumed_settings(
    kind: type[SettingsType], given: Mapping[str, Any], config: Path | None, source: str
) -> tuple[SettingsType, dict[str, str], tuple[str, ...]]:
    """The settings of the run to continue: its own, but for runtime options, and what `--force` lets be changed.

    Raises UsageError where a file is given too, ConfigError that lists the options which say something else than the
    run's config.yaml.
    """
    if config is not None:
        raise UsageError(
            f"--resume keeps the run's own configuration, and -c {config} names another", fix="leave -c out"
        )
    folder = run_record.find_run(runs(), given["resume"])
    stored = with_values_before(kind, load_yaml(folder / run_record.CONFIG))
    own, _ = build_settings(kind, [SettingsLayer(str(folder / run_record.CONFIG), stored)])
    changed = changed_options(own.resolved(), {name: value for name, value in given.items() if name != "resume"})
    if changed and not given.get("force"):
        raise combined_error(
            ConfigError,
            f"{folder.name} was started with other options:",
            changed,
            fix="leave them out, or start a new run; --force goes on with them and records it",
        )
    layers = [
        SettingsLayer(str(folder / run_record.CONFIG), stored),
        SettingsLayer(source, {**given, "resume": folder.name}),
    ]
    settings, sources = build_settings(kind, layers)
    return settings, sources, ()


def changed_options(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Options that decide what is computed and are not as they were (pure)."""
    return [
        f"{name}: {before[name]!r} in the run, {now[name]!r} now"
        for name in now
        if name not in RUNTIME_OPTIONS and name in before and before[name] != now[name]
    ]


def changed_inputs(before: Plan, now: Plan) -> list[str]:
    """Inputs of the next update that are not as they were: ranks, base weights, rows (pure, from two plans)."""
    pairs: dict[str, tuple[Any, Any]] = {
        "ranks": (before.cluster.ranks, now.cluster.ranks),
        "base weights (SHA-256)": (before.model and before.model.sha256, now.model and now.model.sha256),
        "rows (SHA-256)": (before.data and before.data.sha256, now.data and now.data.sha256),
        "hypothesis (SHA-256)": (
            before.hypothesis and before.hypothesis.get("sha256"),
            now.hypothesis and now.hypothesis.get("sha256"),
        ),
    }
    return [f"{name}: {old} in the run, {new} now" for name, (old, new) in pairs.items() if old != new]


def check_unchanged(folder: Path, kind: type[Settings], now: Plan, force: bool = False) -> list[str]:
    """What has changed since a run was started, where `force` lets it go on all the same.

    Raises ConfigError where the run would not go on exactly, naming what has changed.
    """
    before = read_plan(folder)
    options = changed_options(with_current_names(kind, before.settings), now.settings)
    changed = changed_inputs(before, now) + options
    if changed and not force:
        raise combined_error(
            ConfigError,
            f"{folder.name} cannot go on exactly:",
            changed,
            fix="put these back as they were, or start a new run; --force goes on all the same and records it",
        )
    return changed
