"""Plan a job, show the plan, start its ranks, follow them, say what came of it: for `train` and `pretrain` alike."""

from __future__ import annotations

import json
import os
import platform
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.cli.screen import Screen, print_plan, print_result
from thunder.cluster import hosts, launch, openblas, plan, ports
from thunder.cluster.plan import RankPlan
from thunder.config import REPOSITORY, Layer, SettingsType, build, dump_yaml, load_yaml
from thunder.errors import ConfigError, UsageError, several
from thunder.runs import environment, record
from thunder.training.settings import LoopSettings

PLAN = "plan.json"


def runs() -> Path:
    """Where runs lie: THUNDER_RUNS, else runs/ in the repository."""
    return Path(os.environ.get("THUNDER_RUNS") or REPOSITORY / "runs").expanduser()


@dataclass(frozen=True)
class Job:
    """What to run: its kind, its settings with their sources, and what only this kind of job adds to the plan."""

    kind: str
    name: str
    settings: LoopSettings
    sources: dict[str, str]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where it runs: the cluster and why it was chosen."""

    cluster: hosts.Cluster
    reason: str

    @property
    def ranks(self) -> int:
        """One rank for each host entry."""
        return len(self.cluster.hosts)


def choose_place(settings: LoopSettings) -> Place:
    """The cluster of a job: `--ranks` on this machine, else what `hosts.choose` finds."""
    if settings.ranks is not None:
        if settings.cluster is not None:
            raise UsageError(
                f"--ranks {settings.ranks} runs on this machine, --cluster {settings.cluster} names the hosts",
                fix="give one of them",
            )
        return Place(hosts.with_local_ranks(settings.ranks), f"--ranks {settings.ranks}")
    choice = hosts.choose(settings.cluster, os.environ, Path.home())
    return Place(choice.cluster, choice.reason)


def rank_plans(job: Job, place: Place, folder: Path, job_id: str, chosen_ports: list[int]) -> tuple[RankPlan, ...]:
    """What each rank is started with (deciding only; nothing is started)."""
    return plan.plan_ranks(
        place.cluster,
        command=(sys.executable, "-m", "thunder", "rank", str(folder), "--job", job.kind),
        ports=chosen_ports,
        job_id=job_id,
        run_folder=folder,
        cores=environment.cores(),
        openblas=openblas.find(platform.system()),
        system=platform.system(),
        user_environ=os.environ,
    )


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
            "epochs": settings.total_updates * rows_per_update / rows if rows else None,
        },
        **job.facts,
        "environment": list(
            plan.environment_notes(
                system=platform.system(),
                openblas=openblas.find(platform.system()),
                cores=environment.cores(),
                ranks=place.ranks,
                user_environ=os.environ,
                cluster_env=place.cluster.env,
            )
        ),
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


def run(job: Job, place: Place, *, dry_run: bool, as_json: bool) -> int:
    """Plan, show, start, follow, report. Returns the exit code; raises ThunderError where the run failed."""
    resumed = job.settings.resume
    folder = record.find(runs(), resumed) if resumed else runs() / f"(new)-{job.name}"
    job_id = secrets.token_hex(3)
    if dry_run:
        planned = [0] * place.ranks
        shown = describe(job, place, rank_plans(job, place, folder, job_id, planned), folder)
        if as_json:
            print(json.dumps(shown, ensure_ascii=False, indent=4))
        else:
            print_plan(shown)
        return 0
    if not resumed:
        folder = record.new_folder(runs(), job.name)
    else:
        record.point_latest(folder)
    plans = rank_plans(job, place, folder, job_id, ports.free_ports(place.ranks))
    shown = describe(job, place, plans, folder)
    if resumed and (changed := changes(json.loads((folder / PLAN).read_text(encoding="utf-8")), shown)):
        raise several(
            ConfigError,
            f"{folder.name} cannot go on exactly:",
            changed,
            fix="put these back as they were, or start a new run",
        )
    if not resumed:
        digest.write_atomically(folder / record.CONFIG, _config_text(job))
    digest.write_json(folder / PLAN, shown)
    digest.write_json(
        folder / record.ENVIRONMENT,
        environment.describe(REPOSITORY)
        | {"data_sha256": job.facts.get("data", {}).get("sha256")}
        | {"base": job.facts.get("model")},
    )
    (folder / record.RESULTS).unlink(missing_ok=True)
    print_plan(shown)
    with Screen(job.settings.total_updates, folder) as screen:
        ends = launch.run_ranks(plans, log_folder=folder / "logs", on_event=screen.on_event)
    error = launch.failure(ends)
    if error is not None:
        raise error
    results = record.read_results(folder)
    if as_json:
        print(json.dumps({"run": folder.name, **results}, ensure_ascii=False))
    print_result(job.kind, folder, results)
    return 0


def _config_text(job: Job) -> str:
    """The run's config.yaml: every value, usable again with `-c`."""
    values = {name: value for name, value in job.settings.resolved().items() if name != "resume"}
    note = f"# {job.kind}: every option with its value; `thunder {job.kind} -c THIS_FILE` runs it again"
    return f"{note}\n{dump_yaml(values)}"


def resumed_settings(kind: type[SettingsType], given: dict[str, Any]) -> tuple[SettingsType, dict[str, str]]:
    """The settings of the run to continue; a resumed run keeps its configuration.

    Raises ConfigError that lists the flags which say something else than the run's config.yaml.
    """
    folder = record.find(runs(), given["resume"])
    stored = load_yaml(folder / record.CONFIG)
    settings, sources = build(kind, [Layer(str(folder / record.CONFIG), stored | {"resume": folder.name})])
    values = settings.resolved()
    changed = [
        f"{name}: {values[name]!r} in the run, {value!r} given"
        for name, value in given.items()
        if name != "resume" and values[name] != value
    ]
    if changed:
        raise several(
            ConfigError,
            f"{folder.name} was started with other options:",
            changed,
            fix="leave them out, or start a new run",
        )
    return settings, sources


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What the next update depends on and is not as it was: ranks, base weights, rows (pure, from two plans)."""
    named = {
        "ranks": ("cluster", "ranks"),
        "base weights (SHA-256)": ("model", "sha256"),
        "rows (SHA-256)": ("data", "sha256"),
    }
    pairs = {
        name: ((before.get(part) or {}).get(key), (now.get(part) or {}).get(key)) for name, (part, key) in named.items()
    }
    return [f"{name}: {old} in the run, {new} now" for name, (old, new) in pairs.items() if old != new]
