"""Ask every host, before any rank starts, what a job finds there with that host's own files and packages."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from thunder.cluster.health import preflight, probe
from thunder.cluster.health.finding import Finding, failures_first
from thunder.cluster.health.host_report import SURVEY_PREFIX, ConnectionFailure, HostReport, HostSurvey
from thunder.cluster.health.job_consistency import survey_findings
from thunder.cluster.inventory.cluster_file import Cluster, Host
from thunder.cluster.ssh import client
from thunder.units import Seconds

SURVEY_TIMEOUT = Seconds(120)  # the first digest of several GB takes long; later ones are cached
SURVEY_COMMAND = ("-P", "-m", "thunder", "survey")
_SURVEY_TYPE = TypeAdapter(HostSurvey)
ResultType = TypeVar("ResultType")


def check_before_run(
    cluster: Cluster,
    request: dict[str, Any],
    ports: Sequence[int] = (),
    deadline: Seconds = SURVEY_TIMEOUT,
    connect: probe.ConnectHost = probe.connect_host,
) -> tuple[list[Finding], list[HostSurvey], list[HostReport]]:
    """Check the cluster's health and the job's needs at the same time. ports: one per rank, or none."""
    assert not ports or len(ports) == len(cluster.hosts), f"{len(ports)} ports for {len(cluster.hosts)} ranks"
    ports_by_host = {host.name: [port] for host, port in zip(cluster.hosts, ports, strict=False)}
    surveyed = _run_in_thread(lambda: survey_hosts(cluster, request, deadline, connect))
    readings = probe.probe_hosts(cluster, ports_by_host, connect=connect)
    surveys = surveyed.result()
    findings = preflight.cluster_findings(cluster, readings, every_port=True)
    return merge_findings(findings, survey_findings(cluster, surveys)), surveys, readings


def merge_findings(findings: Sequence[Finding], more: Sequence[Finding]) -> list[Finding]:
    """Merge two lists of findings; a healthy result, or a failure with the same text, is kept once. No side effects."""
    texts = {(each.check, each.where, each.found) for each in findings}
    known = {(each.check, each.where) for each in findings}
    new = [
        each
        for each in more
        if (each.check, each.where) not in known
        or (each.state == "failure" and (each.check, each.where, each.found) not in texts)
    ]
    return failures_first([*findings, *new])


def survey_hosts(
    cluster: Cluster,
    request: dict[str, Any],
    deadline: Seconds = SURVEY_TIMEOUT,
    connect: probe.ConnectHost = probe.connect_host,
) -> list[HostSurvey]:
    """Ask all hosts at once; a host that does not answer before the deadline is marked unanswered.

    request: {"job": "train"

    "pretrain", "settings": {...}, "ranks": N}, with the settings as the user gave them: relative paths are below the
    project's folder on each host, and ~ is each host's home. Ranks that share a machine, a Python and a folder are
    asked once.
    """
    until = time.monotonic() + deadline
    pending: dict[tuple[str | None, str, str | None], Future[HostSurvey]] = {}
    futures = []
    for host in cluster.hosts:
        key = (None if host.is_this_machine else host.ssh, probe.host_python(host), host.runs_folder)
        if key not in pending:
            # the plan needs the counts of one host; the digests show whether the other hosts would count the same
            whole = {"env": cluster.env, "runs": host.runs_folder, "whole": not pending}
            text = json.dumps(request | whole, ensure_ascii=False)
            pending[key] = _run_in_thread(lambda host=host, text=text: _survey_host(host, text, until, connect))
        futures.append(pending[key])
    return [_survey_result(host, future, until) for host, future in zip(cluster.hosts, futures, strict=True)]


def _run_in_thread(work: Callable[[], ResultType]) -> Future[ResultType]:
    """Run `work` in a daemon thread; a thread that does not end is abandoned."""
    future: Future[ResultType] = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=do, daemon=True).start()
    return future


def _survey_host(host: Host, text: str, until: float, connect: probe.ConnectHost) -> HostSurvey:
    connection = connect(host)
    try:
        left = Seconds(max(0.1, until - time.monotonic()))
        done = connection.run([probe.host_python(host), *SURVEY_COMMAND], left, stdin=text)
    except client.SshError as error:
        return HostSurvey(host.name, unanswered=error.message)
    finally:
        connection.close()
    return parse_survey(host.name, probe.host_python(host), done)


def parse_survey(host: str, python: str, done: client.CommandResult) -> HostSurvey:
    """Parse a host's answer; a login shell may have printed other text before it. No side effects."""
    answers = [line for line in done.stdout.splitlines() if line.startswith(SURVEY_PREFIX)]
    if not answers:
        last = (done.stderr.strip().splitlines() or ["nothing was printed"])[-1][:300]
        if done.returncode in (126, 127):
            return HostSurvey(host, ConnectionFailure("no python", f"{python} cannot be started: {last}"))
        return HostSurvey(host, unanswered=f"it gave no answer (exit code {done.returncode}): {last}")
    try:
        return _SURVEY_TYPE.validate_python({**json.loads(answers[-1].removeprefix(SURVEY_PREFIX)), "host": host})
    except (ValueError, TypeError, ValidationError):
        return HostSurvey(host, unanswered=f"the answer does not fit the question: {answers[-1][:100]}")


def _survey_result(host: Host, future: Future[HostSurvey], until: float) -> HostSurvey:
    try:
        result = future.result(max(0.0, until + 0.5 - time.monotonic()))
    except client.SshError as error:
        return HostSurvey(host.name, ConnectionFailure(error.kind, error.message, error.fix))
    except TimeoutError:
        return HostSurvey(host.name, unanswered="no answer in time")
    return replace(result, host=host.name)
