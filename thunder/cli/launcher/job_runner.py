"""Plan a job, show the plan, start its ranks, follow them, say what came of it: for `train` and `pretrain` alike."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.cli.console.plan_and_progress import Screen, print_plan, print_result
from thunder.cli.launcher import attempts
from thunder.cli.launcher.job import Job, Place
from thunder.cli.launcher.runs_folder import runs
from thunder.cli.parsing.paths import PATHS, placed
from thunder.cluster.inventory import openblas, rank_plan
from thunder.cluster.inventory.rank_plan import RankPlan
from thunder.cluster.ranks import oom_fallbacks
from thunder.config import REPOSITORY, SettingsLayer, SettingsType, build_settings, dump_yaml, load_yaml
from thunder.errors import ArtifactError, ConfigError, UsageError, combined_error
from thunder.runs.records import environment, run_record
from thunder.training import wraps
from thunder.training.loop_settings import CIRCUMSTANCES, LoopSettings

PLAN = "plan.json"


def describe(job: Job, place: Place, plans: tuple[RankPlan, ...], folder: Path) -> dict[str, Any]:
    """The plan as JSON: the table and `--json` both come from it."""
    settings = job.settings
    rows_per_update = settings.batch_size * place.ranks * settings.grad_accumulation_steps
    rows = job.facts.get("data", {}).get("train", {}).get("rows")
    return {
        "job": job.kind,
        "run": folder.name,
        "cluster": {"name": place.cluster.name, "reason": place.reason, "ranks": place.ranks},
        "batch": {
            "per_rank": settings.batch_size,
            "global": settings.batch_size * place.ranks,
            "grad_accumulation_steps": settings.grad_accumulation_steps,
            "rows_per_update": rows_per_update,
        },
        "length": {
            "iterations": settings.iters,
            "updates": settings.total_updates,
            "epochs": wraps.planned(settings.total_updates, rows, rows_per_update) if rows else None,
        },
        **job.facts,
        **({"hypothesis": _hypothesis(settings)} if settings.hypothesis else {}),
        "environment": list(
            rank_plan.environment_notes(
                system=platform.system(),
                openblas=openblas.find_openblas(platform.system()),
                cores=environment.core_count(),
                ranks=place.ranks,
                user_environ=os.environ,
                cluster_env=place.cluster.env,
            )
        ),
        "notes": [*job.notes, *(f"skipped, as you asked: {each}" for each in job.facts.get("skipped_checks", ()))],
        "settings": settings.resolved(),
        "sources": job.sources,
        "ranks": [
            {
                "rank": each.rank,
                "host": each.host.name,
                "address": each.address,
                "command": list(each.argv),
                "env": dict(each.env),
            }
            for each in plans
        ],
    }


def _hypothesis(settings: LoopSettings) -> dict[str, Any]:
    """The hypothesis that a run is started under, by its digest."""
    from thunder.runs.hypotheses import (
        frozen_hypothesis,
    )  # reads logs of runs: nothing that other plans have to wait for

    return frozen_hypothesis.frozen_reference(Path(str(placed(settings).hypothesis)))


def run(job: Job, place: Place, *, dry_run: bool, as_json: bool) -> int:
    """Plan, show, start, follow, report. Returns the exit code; raises ThunderError where the run failed."""
    resumed, named = job.settings.resume, job.settings.run_name
    folder = runs() / named if named else run_record.new_run_name(runs(), job.name)
    folder = run_record.find_run(runs(), resumed) if resumed else folder
    if resumed or named:
        from thunder.runs.bundles import bundle  # reads rows of text: nothing that a plan has to wait for

        bundle.refuse_sealed(folder)
    plans = attempts.rank_plans(job.kind, place.cluster, folder, "0", [0] * place.ranks)
    shown = describe(job, place, plans, folder)
    changed = refuse_changes(folder, shown, job.settings.force) if resumed else []
    if dry_run:
        if as_json:
            print(json.dumps(shown, ensure_ascii=False, indent=4))
        else:
            print_plan(shown)
        return 0
    try:
        folder.mkdir(parents=True, exist_ok=bool(resumed))
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be made: {error.strerror}", fix="THUNDER_RUNS=FOLDER names another place for runs"
        ) from None
    with run_record.lock_run(folder):
        _write_plan(job, folder, shown)
        run_record.note_changes(folder, changed)
        print_plan(shown)
        with Screen(job.settings.total_updates, folder) as screen:
            attempts.Attempts(job, place.cluster, folder, screen, gpu_shape(job)).run()
        results = run_record.read_results(folder)
    if as_json:
        print(json.dumps({"run": folder.name, **results}, ensure_ascii=False))
    else:
        print_result(shown, folder, results)
    return 0


def gpu_shape(job: Job) -> oom_fallbacks.WorkloadShape | None:
    """What an incident of the GPU is remembered by; None where the job has no base model to speak of."""
    model = job.facts.get("model")
    if not model:
        return None
    settings = job.settings
    return oom_fallbacks.WorkloadShape(
        chips=oom_fallbacks.distinct_chips(job.facts.get("chips") or [environment.chip_name()]),
        model=str(model.get("sha256")),
        batch_size=settings.batch_size,
        num_layers=int(settings.resolved().get("num_layers", 0)),
        max_seq_length=settings.max_seq_length,
        grad_checkpoint=settings.grad_checkpoint,
    )


def _write_plan(job: Job, folder: Path, shown: dict[str, Any]) -> None:
    """What a run has before its ranks start; `latest` points to it once it is whole."""
    if job.settings.resume is None or job.settings.force:
        digest.write_atomically(folder / run_record.CONFIG, _config_text(job))
    digest.write_json(folder / PLAN, shown)
    of_job = {"data_sha256": job.facts.get("data", {}).get("sha256"), "base": job.facts.get("model")}
    if chips := job.facts.get("chips"):  # those that compute, not the launcher's
        of_job["chip"] = ", ".join(dict.fromkeys(chips))
    digest.write_json(folder / run_record.ENVIRONMENT, environment.describe_environment(REPOSITORY) | of_job)
    (folder / run_record.RESULTS).unlink(missing_ok=True)
    run_record.point_latest(folder)


def refuse_changes(folder: Path, shown: dict[str, Any], force: bool = False) -> list[str]:
    """What has changed since a run was started, where `force` lets it go on all the same.

    Raises ConfigError where the run would not go on exactly, naming what has changed.
    """
    before = read_plan(folder)
    changed = changes(before, shown) + changed_options(before.get("settings") or {}, shown["settings"])
    if changed and not force:
        raise combined_error(
            ConfigError,
            f"{folder.name} cannot go on exactly:",
            changed,
            fix="put these back as they were, or start a new run; --force goes on all the same and records it",
        )
    return changed


def changed_options(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Options that decide what is computed and are not as they were (pure)."""
    return [
        f"{name}: {before[name]!r} in the run, {now[name]!r} now"
        for name in now
        if name not in CIRCUMSTANCES and name in before and before[name] != now[name]
    ]


def read_plan(folder: Path) -> dict[str, Any]:
    """The plan that a run was started with.

    Raises ArtifactError where it is missing or damaged.
    """
    try:
        return dict(json.loads((folder / PLAN).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(
            f"{folder / PLAN}: {error}", fix="start a new run with -c " + str(folder / run_record.CONFIG)
        ) from None


def _config_text(job: Job) -> str:
    """The run's config.yaml: every value, usable again with `-c`."""
    values = {name: value for name, value in job.settings.resolved().items() if name not in ("resume", "force")}
    note = f"# {job.kind}: every option with its value; `./launch.sh {job.kind} -c THIS_FILE` runs it again"
    return f"{note}\n{dump_yaml(values)}"


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
    values = {name: absolute(getattr(settings, name)) for name in PATHS if hasattr(settings, name)}
    return settings.model_copy(update=values), sources, tuple(note for layer in layers for note in layer.notes)


def absolute(value: str | list[str] | None) -> Any:
    """A path option, or each of a list of them, made absolute; what is not given stays so."""
    if isinstance(value, list):
        return [absolute(each) for each in value]
    return str(Path(value).expanduser().absolute()) if value else value


def resumed_settings(
    kind: type[SettingsType], given: dict[str, Any], config: Path | None
) -> tuple[SettingsType, dict[str, str], tuple[str, ...]]:
    """The settings of the run to continue: its own, but for circumstances, and for what `--force` lets be changed.

    Raises UsageError where a file is given too, ConfigError that lists the flags which say something else than the
    run's config.yaml.
    """
    if config is not None:
        raise UsageError(
            f"--resume keeps the run's own configuration, and -c {config} names another", fix="leave -c out"
        )
    folder = run_record.find_run(runs(), given["resume"])
    stored = load_yaml(folder / run_record.CONFIG)
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
        SettingsLayer("command line", given | {"resume": folder.name}),
    ]
    settings, sources = build_settings(kind, layers)
    return settings, sources, ()


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What the next update depends on and is not as it was: ranks, base weights, rows (pure, from two plans)."""
    named = {
        "ranks": ("cluster", "ranks"),
        "base weights (SHA-256)": ("model", "sha256"),
        "rows (SHA-256)": ("data", "sha256"),
        "hypothesis (SHA-256)": ("hypothesis", "sha256"),
    }
    pairs = {
        name: ((before.get(part) or {}).get(key), (now.get(part) or {}).get(key)) for name, (part, key) in named.items()
    }
    return [f"{name}: {old} in the run, {new} now" for name, (old, new) in pairs.items() if old != new]
