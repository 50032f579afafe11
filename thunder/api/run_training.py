"""Train from Python: a LoRA adapter, the tiny base model, a recognizer's head; or resume a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thunder.api.python_options import check_callbacks, given_options
from thunder.api.results import PYTHON, TrainResult, train_result
from thunder.launcher.in_process import run_in_process
from thunder.launcher.job_console import JobConsole, SilentConsole
from thunder.launcher.job_kinds import PLANNERS
from thunder.launcher.job_runner import PlannedJob, run_planned
from thunder.launcher.plan import read_plan
from thunder.launcher.runs_folder import runs
from thunder.runs.records import run_record
from thunder.training.training_events import Callback, CallbackList


def train(
    *,
    config: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    in_process: bool | None = None,
    console: JobConsole | None = None,
    **options: Any,
) -> TrainResult:
    """Train a LoRA adapter and test it against its base; the same as `thunder train`.

    With one rank (`ranks=1`) it trains in this process: callbacks run between the steps, and their time adds to them.
    Otherwise it starts one process a rank, on this machine or over the cluster, supervises them and restarts them after
    faults; callbacks then run here, on the events that rank 0 reports, and `on_start` comes again after a restart.

    Args:
        config: YAML file of options; a run's config.yaml is one.
        callbacks: receive start, steps, validations, checkpoints and the end; they do not change what is computed.
        in_process: whether to train in this process; None: where the job has one rank on this machine by `ranks=1`.
        console: shows the plan and the progress; None shows nothing.
        **options: fields of `thunder.lora.lora_settings.LoraSettings`, such as `iters=100` or `data="folder"`; without
            `model` and `data` the shipped tiny base is trained on the sample corpus.

    Returns:
        The finished run: folders, losses, best step, test.

    Raises:
        UsageError: an option, the model or the rows cannot be used (ConfigError, ModelError, CorpusError are kinds).
        ArtifactError: a checkpoint to resume from is damaged or has another fingerprint.
        ClusterError: a host or a link is unreachable.
        HangError: the ranks made no progress, or used up their restarts.
        ResourceError: out of memory or GPU time-outs, and no smaller shape is left.
        RunFailed: a rank died, or a loss is not finite.
        Interrupted: the user asked to stop; a checkpoint is written.
    """
    return _run("train", config, callbacks, in_process, console, options)


def pretrain(
    *,
    config: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    in_process: bool | None = None,
    console: JobConsole | None = None,
    **options: Any,
) -> TrainResult:
    """Pretrain the tiny base model from open text; the same as `thunder pretrain`.

    Args, returns and raises as `train`; options are the fields of `thunder.lora.lora_settings.PretrainSettings`.
    """
    return _run("pretrain", config, callbacks, in_process, console, options)


def train_recognizer(
    *,
    config: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    in_process: bool | None = None,
    console: JobConsole | None = None,
    **options: Any,
) -> TrainResult:
    """Train a CTC head over frozen features and test its best checkpoint; the same as `thunder asr train`.

    Args, returns and raises as `train`; options are the fields of
    `thunder.acoustic.acoustic_settings.AcousticSettings`.
    """
    return _run("asr", config, callbacks, in_process, console, options)


def resume(
    run: str | Path = "latest",
    *,
    force: bool = False,
    callbacks: Sequence[Callback] = (),
    in_process: bool | None = None,
    console: JobConsole | None = None,
    **options: Any,
) -> TrainResult:
    """Continue a run from its newest whole checkpoint, as if it had never stopped; the same as `thunder resume`.

    Args:
        run: id or folder of the run, or "latest".
        force: go on although options, rows or base weights have changed; the run records it.
        callbacks: as in `train`.
        in_process: as in `train`.
        console: as in `train`.
        **options: runtime options that may change, such as `cluster` or `allow_solo`.

    Returns:
        The finished run.

    Raises:
        UsageError: there is no such run.
        ConfigError: the run would not go on exactly, and `force` is not given.
        ThunderError: as `train`.
    """
    check_callbacks(callbacks)
    planned = plan_resume(run, force, console or SilentConsole(), PYTHON, **given_options(options))
    return run_training(planned, callbacks, in_process, console)


def plan_resume(run: str | Path, force: bool, console: JobConsole, source: str, **options: Any) -> PlannedJob:
    """Plan the continuation of a run. Raises as `resume`, before anything is started."""
    folder = run_record.find_run(runs(), str(run))
    given = options | {"resume": str(folder)} | ({"force": True} if force else {})
    return PLANNERS[read_plan(folder).job](given, None, console, source)


def run_training(
    planned: PlannedJob,
    callbacks: Sequence[Callback] = (),
    in_process: bool | None = None,
    console: JobConsole | None = None,
) -> TrainResult:
    """Run a planned job to its end; see `train` for the arguments."""
    alone = planned.job.settings.ranks == 1 if in_process is None else in_process
    run = run_in_process if alone else run_planned
    results = run(planned, console or SilentConsole(), CallbackList(callbacks))
    return train_result(planned.job.kind, planned.folder, results)


def _run(
    kind: str,
    config: str | Path | None,
    callbacks: Sequence[Callback],
    in_process: bool | None,
    console: JobConsole | None,
    options: dict[str, Any],
) -> TrainResult:
    console = console or SilentConsole()
    check_callbacks(callbacks)
    planned = PLANNERS[kind](given_options(options), Path(config) if config else None, console, PYTHON)
    return run_training(planned, callbacks, in_process, console)
