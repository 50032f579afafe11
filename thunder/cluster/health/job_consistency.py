"""Check that every host has the same job (versions, model, rows) and enough space. No side effects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from thunder.cluster.health.finding import Finding, failures_first, host_command, quote_path
from thunder.cluster.health.host_report import HostReport, HostSurvey, Resources
from thunder.cluster.health.preflight import capacity_findings, version_findings
from thunder.cluster.inventory.cluster_file import Cluster, Host
from thunder.units import format_bytes

ERROR_CHECKS = {
    "ModelError": "model",
    "CorpusError": "data",
}  # check by the kind of error; other errors are about the settings


def survey_findings(cluster: Cluster, surveys: Sequence[HostSurvey]) -> list[Finding]:
    """Return all findings of the surveys, failures first."""
    hosts = {host.name: host for host in cluster.hosts}
    whole = [each for each in surveys if each.facts is not None]
    findings = [finding for each in surveys for finding in host_survey_findings(hosts, each, whole)]
    answered = [each for each in surveys if each.versions]
    names = {name: None for each in answered for name in each.versions}
    rows = {name: {each.host: each.versions.get(name) for each in answered} for name in names}
    rows["requirements.lock"] = {each.host: each.lock for each in answered}
    findings += version_findings("software", ", ".join(each.host for each in answered), rows)
    findings += file_findings(hosts, whole)
    return failures_first(findings)


def host_survey_findings(hosts: dict[str, Host], survey: HostSurvey, whole: Sequence[HostSurvey]) -> Iterator[Finding]:
    """Check one host by itself. whole: the surveys of hosts that have all that the job needs."""
    host = hosts[survey.host]
    if survey.reach:
        check = "python" if survey.reach.kind == "no python" else "ssh"
        yield Finding(check, "failure", host.name, survey.reach.message, survey.reach.fix)
        return
    if survey.unanswered:
        fix = host_command(host, f"cd {quote_path(host.folder or 'thunder-train')} && git pull && ./launch.sh setup")
        yield Finding("survey", "failure", host.name, survey.unanswered, fix)
        return
    if survey.error:
        check = ERROR_CHECKS.get(survey.error.kind, "settings")
        fix = copy_command(hosts, whole[0], survey, check) if check != "settings" and whole else ""
        yield Finding(check, "failure", host.name, survey.error.message, fix or survey.error.fix)
    if survey.disk_free is not None and survey.memory is not None:
        yield from capacity_findings(
            host, HostReport(host.name, resources=Resources(survey.disk_free, survey.memory, None))
        )
    weights = _facts_part(survey, "model").get("bytes") or 0
    if survey.memory is not None and weights > survey.memory:
        text = f"the base model's weights take {format_bytes(weights)}, memory is {format_bytes(survey.memory)}"
        yield Finding("memory", "failure", host.name, text, "a smaller or quantised --model")


def file_findings(hosts: dict[str, Host], whole: Sequence[HostSurvey]) -> Iterator[Finding]:
    """Compare the base model and the data files by their digests."""
    models = {each.host: _facts_part(each, "model").get("sha256") for each in whole}
    yield from _compare_digests("model", "the base model", models, hosts, whole)
    parts = {part: None for each in whole for part in _facts_part(each, "data").get("sha256", {})}
    for part in parts:
        digests = {each.host: _facts_part(each, "data").get("sha256", {}).get(part) for each in whole}
        files = (_facts_part(each, "data").get("files", {}).get(part) for each in whole)
        yield from _compare_digests("data", next((str(file) for file in files if file), part), digests, hosts, whole)


def _compare_digests(
    check: str, what: str, digests: dict[str, str | None], hosts: dict[str, Host], whole: Sequence[HostSurvey]
) -> Iterator[Finding]:
    """Compare one file or model on all hosts with the first host that has it."""
    first = next((each for each in whole if digests[each.host]), None)
    if first is None:
        return
    expected = digests[first.host] or ""
    differing = [each for each in whole if digests[each.host] != expected]
    if differing:
        shown = ", ".join(f"{host} {digest[:12] if digest else '(none)'}" for host, digest in digests.items())
        fix = " ; ".join(copy_command(hosts, first, each, check) for each in differing)
        yield Finding(check, "failure", ", ".join(digests), f"{what} differs: {shown}", fix)
    else:
        yield Finding(check, "ok", ", ".join(digests), f"{what} {expected[:12]}")


def _facts_part(survey: HostSurvey, part: str) -> dict[str, Any]:
    """Return a part of the facts; an empty mapping if the host sent anything else."""
    value = (survey.facts or {}).get(part)
    return value if isinstance(value, dict) else {}


def copy_command(hosts: dict[str, Host], giver: HostSurvey, taker: HostSurvey, check: str) -> str:
    """Return the command that copies model or data to a host, to be typed on the launching machine."""
    if check == "model":
        paths = [str(_facts_part(giver, "model").get("path") or "")]
        if PurePosixPath(paths[0]).parent.name == "snapshots":  # the hub's cache: its links point outside the snapshot
            paths = [str(PurePosixPath(paths[0]).parents[1])]
    else:
        paths = [str(path) for path in _facts_part(giver, "data").get("files", {}).values()]
    commands = []
    for path in filter(None, paths):
        folder, name = PurePosixPath(path).parent, PurePosixPath(path).name
        there = quote_path(translate_path(str(folder), giver, taker))
        give = f"tar -C {quote_path(str(folder))} -cf - {quote_path(name)}"
        take = f"mkdir -p {there} && tar -C {there} -xf -"
        commands.append(f"{_pipe_command(hosts[giver.host], give)} | {_pipe_command(hosts[taker.host], take)}")
    return " && ".join(commands)


def _pipe_command(host: Host, command: str) -> str:
    """Return a command for a pipe, without ssh's terminal, which would change the bytes."""
    if host.is_this_machine:
        return f"({command})" if "&&" in command else command
    return host_command(host, command).replace("ssh -t ", "ssh ", 1)


def translate_path(path: str, giver: HostSurvey, taker: HostSurvey) -> str:
    """Return where another host has a path: below its project, below its home, or at the same place."""
    for own, other in ((giver.project, taker.project), (giver.home, taker.home)):
        if own and other and PurePosixPath(path).is_relative_to(own):
            return str(PurePosixPath(other) / PurePosixPath(path).relative_to(own))
    return path
