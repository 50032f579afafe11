"""From options to planned jobs: one function for each kind of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from thunder.config import SettingsLayer
from thunder.errors import UsageError
from thunder.launcher import plan_facts, shape_check
from thunder.launcher.job import Job, Placement, choose_placement
from thunder.launcher.job_console import JobConsole
from thunder.launcher.job_runner import PlannedJob, plan_job
from thunder.launcher.job_settings import absolute_path, new_settings, resumed_settings
from thunder.launcher.options import mlx_lm_options
from thunder.launcher.options.setting_layers import MLX_LM_LINE, file_and_flags, lora_layers
from thunder.launcher.options.setting_paths import check_writable, portable_paths
from thunder.launcher.plan import JobFacts
from thunder.launcher.remote_checks import survey_hosts
from thunder.lora.lora_settings import EMBEDDED_MODEL, LoraSettings, PretrainSettings
from thunder.training.loop_settings import LoopSettings

if TYPE_CHECKING:
    pass

JobSettings = TypeVar("JobSettings", bound=LoopSettings)
Options = Mapping[str, Any]


def plan_train(options: Options, config: Path | None, console: JobConsole, source: str) -> PlannedJob:
    """Plan LoRA training. options: what the caller named (field -> value); source: where the options come from.

    Raises UsageError or one of its kinds where settings, model, rows, shape or hosts do not allow the run.
    """
    settings, sources, notes = _settings(LoraSettings, options, config, source, lora_layers)
    settings = _without_epochs_that_lose(settings, sources, options)
    if source == MLX_LM_LINE and (note := _differences_from_mlx_lm(settings, sources, config)):
        notes = (*notes, note)
    if "resume" not in options and settings.model and Path(settings.model).expanduser().exists():
        settings = settings.model_copy(update={"model": absolute_path(settings.model)})  # else it names a repository
    placement, settings = _placement(settings)
    name = Path(settings.model or EMBEDDED_MODEL).name if settings.model or _names_rows(settings) else "sample"
    facts = survey_hosts("train", settings, placement, console) if placement.is_remote else plan_facts.train_facts(
        settings, placement.ranks
    )  # fmt: skip
    settings, sources = balance_by_chips(settings, sources, facts.chips or ())
    if settings.epochs is not None and facts.data and facts.data.train:
        notes = (*notes, f"{settings.epochs:g} epochs over {facts.data.train.rows} training rows")
        sources = sources | {"iters": sources["epochs"]}
        settings = plan_facts.with_epochs(settings, facts.data.train.rows, placement.ranks)
    shape = shape_check.check_shape(Job("train", name, settings, sources, facts, notes), placement)
    facts = facts.model_copy(update={"shape": shape})
    return plan_job(Job("train", name, settings, sources, facts, notes), placement)


def plan_pretrain(options: Options, config: Path | None, console: JobConsole, source: str) -> PlannedJob:
    """Plan the pretraining of the tiny base; see plan_train."""
    settings, sources, notes = _settings(PretrainSettings, options, config, source)
    if settings.out:
        check_writable(Path(settings.out))
    placement, settings = _placement(settings)
    facts = survey_hosts("pretrain", settings, placement, console) if placement.is_remote else JobFacts()
    return plan_job(Job("pretrain", "tiny-base", settings, sources, facts, notes), placement)


def plan_recognizer(options: Options, config: Path | None, console: JobConsole, source: str) -> PlannedJob:
    """Plan the training of a CTC head over frozen features; see plan_train."""
    from thunder.acoustic.acoustic_settings import AcousticSettings
    from thunder.launcher.recognizer_facts import recognizer_facts

    settings, sources, notes = _settings(AcousticSettings, options, config, source)
    placement, settings = _placement(settings)
    facts = survey_hosts("asr", settings, placement, console) if placement.is_remote else recognizer_facts(settings)
    name = f"asr-{settings.script}-{settings.mode_name}"
    return plan_job(Job("asr", name, settings, sources, facts, notes), placement)


PLANNERS = {"train": plan_train, "pretrain": plan_pretrain, "asr": plan_recognizer}


def _settings(
    kind: type[JobSettings],
    options: Options,
    config: Path | None,
    source: str,
    layers: Callable[..., list[SettingsLayer]] | None = None,
) -> tuple[JobSettings, dict[str, str], tuple[str, ...]]:
    if "resume" in options:
        if kind is LoraSettings:
            options, _ = mlx_lm_options.from_mlx_lm(options, source)
        return resumed_settings(kind, options, config, source)
    if layers is not None:
        return new_settings(kind, layers(config, options, source))
    return new_settings(kind, file_and_flags(kind, config, options, source))


def _placement(settings: JobSettings) -> tuple[Placement, JobSettings]:
    """The job's placement, and its settings with paths that all hosts of the placement can read."""
    placement = choose_placement(settings)
    return placement, portable_paths(settings) if placement.is_remote else settings


def _without_epochs_that_lose(settings: LoraSettings, sources: dict[str, str], options: Options) -> LoraSettings:
    """Leave `epochs` of a file out where the caller names `iters`.

    Raises UsageError where both come from one source.
    """
    if settings.epochs is None or sources["epochs"] != sources["iters"]:
        return settings if "iters" not in options else settings.model_copy(update={"epochs": None})
    raise UsageError(
        f"{sources['epochs']}: 'epochs' and 'iters' both name the length of the run", fix="give one of them"
    )


def _differences_from_mlx_lm(settings: LoraSettings, sources: dict[str, str], config: Path | None) -> str:
    """A note on what a line of mlx_lm.lora leaves open and is not as in mlx_lm; empty where nothing is."""
    said = {name for name, source in sources.items() if source == MLX_LM_LINE or (config and source == str(config))}
    return mlx_lm_options.differing_defaults(settings.resolved(), said)


def _names_rows(settings: LoraSettings) -> bool:
    """Whether the user named rows, instead of the sample that is shipped."""
    return bool(settings.data or settings.train_data)


def balance_by_chips(
    settings: LoraSettings, sources: dict[str, str], chips: Sequence[str]
) -> tuple[LoraSettings, dict[str, str]]:
    """Rows by speed where the hosts' chips differ and nobody said otherwise; hosts of one kind keep the exact split."""
    if sources.get("balance") != "default" or len(set(chips)) < 2:
        return settings, sources
    return settings.model_copy(update={"balance": "auto"}), sources | {"balance": "the hosts' chips differ"}
