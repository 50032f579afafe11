"""Run a job of any kind: plan it, start its ranks, follow them, read the results."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.cluster.inventory import openblas, rank_plan
from thunder.cluster.inventory.rank_plan import RankPlan
from thunder.config import REPOSITORY, dump_yaml
from thunder.errors import UsageError
from thunder.launcher import attempts
from thunder.launcher.job import Job, Placement
from thunder.launcher.job_console import JobConsole
from thunder.launcher.job_settings import check_unchanged
from thunder.launcher.options.setting_paths import local_paths
from thunder.launcher.plan import BatchPart, ClusterPart, LengthPart, Plan, RankPart
from thunder.launcher.run_follower import RunFollower
from thunder.launcher.runs_folder import runs
from thunder.launcher.shape_check import gpu_shape
from thunder.runs.records import environment, run_record
from thunder.runs.records.registry import PLAN
from thunder.training.loop_settings import LoopSettings, late_warmup, planned_epochs
from thunder.training.training_events import NO_CALLBACKS, CallbackList


@dataclass(frozen=True)
class PlannedJob:
    """A job with the folder and the plan of its run. changed: what a forced continuation changes."""

    job: Job
    placement: Placement
    folder: Path
    plan: Plan
    changed: tuple[str, ...] = ()


def plan_job(job: Job, placement: Placement) -> PlannedJob:
    """Plan a run; nothing is started or written.

    Raises UsageError where the run to resume does not exist or is sealed, ConfigError where it cannot go on exactly.
    """
    settings = job.settings
    named = settings.run_name
    folder = runs() / named if named else run_record.new_run_name(runs(), job.name)
    folder = run_record.find_run(runs(), settings.resume) if settings.resume else folder
    if settings.resume or named:
        from thunder.runs.bundles import bundle  # imports what reads rows; other plans start faster without

        bundle.refuse_sealed(folder)
    plans = attempts.rank_plans(job.kind, placement.cluster, folder, "0", [0] * placement.ranks)
    plan = make_plan(job, placement, plans, folder)
    changed = check_unchanged(folder, type(settings), plan, settings.force) if settings.resume else []
    return PlannedJob(job, placement, folder, plan, tuple(changed))


def run_planned(planned: PlannedJob, console: JobConsole, callbacks: CallbackList = NO_CALLBACKS) -> dict[str, Any]:
    """Start the ranks, follow them to the end, and return the results.

    Raises UsageError where the folder cannot be made or another launcher holds it, else the ThunderError that the run
    failed with.
    """
    job, folder = planned.job, planned.folder
    with opened_run(planned, console):
        total = job.settings.total_updates
        with console.display(total) as display, RunFollower(total, folder, display, callbacks) as follower:
            attempts.Attempts(job, planned.placement.cluster, folder, follower, gpu_shape(job)).run()
        return run_record.read_results(folder)


@contextlib.contextmanager
def opened_run(planned: PlannedJob, console: JobConsole) -> Generator[None]:
    """Make the run's folder, hold it, and write what a run has before its ranks start; show the plan.

    Raises UsageError where the folder cannot be made or another launcher holds it.
    """
    folder = planned.folder
    try:
        folder.mkdir(parents=True, exist_ok=bool(planned.job.settings.resume))
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be made: {error.strerror}", fix="THUNDER_RUNS=FOLDER names another place for runs"
        ) from None
    with run_record.lock_run(folder):
        _write_plan(planned)
        run_record.note_changes(folder, list(planned.changed))
        console.show_plan(planned.plan)
        yield


def make_plan(job: Job, placement: Placement, plans: tuple[RankPlan, ...], folder: Path) -> Plan:
    """The plan of a run in this folder. plans: what each rank is started with."""
    settings, facts = job.settings, job.facts
    rows_per_update = settings.batch_size * placement.ranks * settings.grad_accumulation_steps
    rows = facts.data.train.rows if facts.data and facts.data.train else None
    optional: dict[str, Any] = {"hypothesis": _hypothesis(settings)} if settings.hypothesis else {}
    return Plan(
        job=job.kind,
        run=folder.name,
        cluster=ClusterPart(name=placement.cluster.name, reason=placement.reason, ranks=placement.ranks),
        batch=BatchPart(
            per_rank=settings.batch_size,
            global_=settings.batch_size * placement.ranks,
            grad_accumulation_steps=settings.grad_accumulation_steps,
            rows_per_update=rows_per_update,
        ),
        length=LengthPart(
            iterations=settings.iters,
            updates=settings.total_updates,
            epochs=planned_epochs(settings.total_updates, rows, rows_per_update) if rows else None,
        ),
        **{name: getattr(facts, name) for name in type(facts).model_fields if name in facts.model_fields_set},
        **optional,
        environment=_environment_notes(placement),
        notes=[
            *job.notes,
            *filter(None, [late_warmup(settings)]),
            *(f"skipped, as you asked: {each}" for each in facts.skipped_checks or ()),
        ],
        settings=settings.resolved(),
        sources=job.sources,
        ranks=[
            RankPart(
                rank=each.rank,
                host=each.host.name,
                address=each.address,
                command=list(each.argv),
                env=dict(each.env),
            )
            for each in plans
        ],
    )


def _environment_notes(placement: Placement) -> list[str]:
    return list(
        rank_plan.environment_notes(
            system=platform.system(),
            openblas=openblas.find_openblas(platform.system()),
            cores=environment.core_count(),
            ranks=placement.ranks,
            user_environ=os.environ,
            cluster_env=placement.cluster.env,
        )
    )


def _hypothesis(settings: LoopSettings) -> dict[str, Any]:
    """The hypothesis that a run is started under, by its digest."""
    # imports what reads logs of runs; other plans start faster without
    from thunder.runs.hypotheses import frozen_hypothesis

    return frozen_hypothesis.frozen_reference(Path(str(local_paths(settings).hypothesis)))


def _write_plan(planned: PlannedJob) -> None:
    """What a run has before its ranks start; `latest` points to it once it is whole."""
    job, folder = planned.job, planned.folder
    if job.settings.resume is None or job.settings.force:
        digest.write_atomically(folder / run_record.CONFIG, _config_text(job))
    digest.write_json(folder / PLAN, planned.plan.to_json())
    data, model = job.facts.data, job.facts.model
    of_job: dict[str, Any] = {"data_sha256": data and data.sha256, "base": model and model.to_json()}
    if chips := job.facts.chips:  # those that compute, not the launcher's
        of_job["chip"] = ", ".join(dict.fromkeys(chips))
    digest.write_json(folder / run_record.ENVIRONMENT, environment.describe_environment(REPOSITORY) | of_job)
    (folder / run_record.RESULTS).unlink(missing_ok=True)
    run_record.point_latest(folder)


def _config_text(job: Job) -> str:
    """The run's config.yaml: every value, usable again with `-c`."""
    values = {name: value for name, value in job.settings.resolved().items() if name not in ("resume", "force")}
    note = f"# {job.kind}: every option with its value; `./launch.sh {job.kind} -c THIS_FILE` runs it again"
    return f"{note}\n{dump_yaml(values)}"
