"""Checks before ranks start on other hosts: the hosts, the links between them, and a trial sum over all ranks."""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from thunder.cluster.health import job_survey
from thunder.cluster.health.finding import Finding, is_link_finding
from thunder.cluster.inventory.cluster_file import Cluster
from thunder.cluster.ranks import start_ranks
from thunder.errors import ClusterError, HangError, UsageError, combined_error
from thunder.launcher import attempts
from thunder.launcher.job import Placement
from thunder.launcher.job_console import JobConsole
from thunder.launcher.plan import JobFacts
from thunder.training.loop_settings import LoopSettings
from thunder.units import Seconds

# Checks of the job itself, not of a host: the user corrects the command.
JOB_CHECKS = ("model", "data", "settings")


def survey_hosts(kind: str, settings: LoopSettings, placement: Placement, console: JobConsole) -> JobFacts:
    """Ask the hosts of a job for the facts of its plan, their chips, and their health.

    Raises ClusterError, or UsageError where only the job is at fault, that lists every failure with its fix.
    """
    console.say(f"asking {', '.join(host.name for host in placement.cluster.hosts)} ...")
    request = {"job": kind, "settings": settings.resolved(), "ranks": placement.ranks}
    findings, surveys, _ = job_survey.check_before_run(placement.cluster, request)
    skipped = check_findings(findings, settings.skip_link_check)
    for finding in findings:
        if finding.state == "warning":
            console.say(f"warning: {finding.check} {finding.where}: {finding.found}")
    facts = dict(surveys[0].facts or {})
    facts["machines"] = [{"memory": each.memory, "measured": each.measured} for each in surveys]
    facts |= {"chips": [each.chip or "" for each in surveys], "skipped_checks": skipped}
    try:
        return JobFacts.of_another_version(facts)
    except ValidationError as error:
        host, first = placement.cluster.hosts[0].name, error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ClusterError(
            f"{host}: its survey says of '{where}': {first['msg']}", fix="the same version on every host"
        ) from None


def check_findings(findings: Sequence[Finding], skip_links: bool) -> list[str]:
    """The link failures that the user skips, as lines for the plan (pure).

    Raises ClusterError, or UsageError where only the job is at fault, that lists every other failure with its fix.
    """
    bad = [each for each in findings if each.state == "failure"]
    skipped = [each for each in bad if skip_links and is_link_finding(each)]
    fatal = [each for each in bad if each not in skipped]
    if fatal:
        only_the_job = all(each.check in JOB_CHECKS for each in fatal)
        fixes = [f"\n    to fix: {each.fix}" if each.fix else "" for each in fatal]
        lines = [f"{each.check} {each.where}: {each.found}{fix}" for each, fix in zip(fatal, fixes, strict=True)]
        hint = (
            "--skip-link-check starts all the same"
            if any(map(is_link_finding, fatal))
            else "thunder_status shows all of it"
        )
        raise combined_error(
            UsageError if only_the_job else ClusterError, "the run cannot be started:", lines, fix=hint
        )
    return [f"{each.check} {each.where}: {each.found}" for each in skipped]


def check_ring_sums(cluster: Cluster, deadline: Seconds) -> dict[str, Any]:
    """Start one rank on every host and let them sum: {"right", "ranks", "seconds"}.

    Raises HangError where they have not come to an end by the deadline, and what else they failed with.
    """
    result: dict[str, Any] = {}
    stop = start_ranks.StopRequest()
    late = [threading.Timer(after, stop.ask) for after in (deadline, deadline + 2 * start_ranks.REQUEST_DEBOUNCE)]

    def on_event(rank: int, event: dict[str, Any]) -> None:
        if event.get("event") == "smoke" and rank == 0:
            result.update({key: event[key] for key in ("right", "ranks", "seconds")})

    with tempfile.TemporaryDirectory(prefix="thunder-smoke-") as folder:
        run = Path(folder) / f"smoke-{secrets.token_hex(4)}"
        plans = attempts.rank_plans("smoke", cluster, run, secrets.token_hex(3), attempts.draw_ports(cluster))
        for timer in late:  # the first asks the ranks to end, the second ends them
            timer.daemon = True
            timer.start()
        plans = [replace(each, transient=True) for each in plans]
        ends = start_ranks.run_ranks(plans, log_folder=run / "logs", on_event=on_event, stop=stop)
        for timer in late:
            timer.cancel()
    if stop.count and not result:
        raise HangError(
            f"no sum within {deadline:.0f} s", fix="thunder_status again; on a busy machine it takes longer"
        )
    error = start_ranks.run_error(ends)
    if error is not None and not result:
        raise error
    return result
