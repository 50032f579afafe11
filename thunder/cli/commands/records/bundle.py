"""`thunder bundle`: is a finished run what it says it is, and may nothing change in it any more?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from thunder.cli.console.output import say
from thunder.errors import ArtifactError, UsageError, combined_error
from thunder.launcher.runs_folder import run_folder
from thunder.runs.bundles import bundle

app = typer.Typer(help="Verify finished runs, recompute their scores, and seal them.", no_args_is_help=True)
Runs = Annotated[list[str], typer.Argument(help="Runs: ids, folders, or 'latest'.", show_default=False)]
Remote = Annotated[str | None, typer.Option(help="HOST:FOLDER of a copy that must be identical (one run only).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of lines.")]


@app.command()
def verify(
    runs: Runs,
    digest: Annotated[str | None, typer.Option(help="SHA-256 that the manifest must have (one run only).")] = None,
    remote: Remote = None,
    as_json: AsJson = False,
) -> None:
    """Check files, rows, counts, results and digests; exit code 4 with the first five faults of each run.

    --digest and --remote apply to one run.
    """
    if (digest or remote) and len(runs) > 1:
        raise UsageError("--digest and --remote apply to one run", fix="name one run")
    verdicts = [bundle.inspect_bundle(run_folder(each)) for each in runs]
    for verdict in verdicts:
        if digest and verdict.sealed != digest:
            verdict.faults.append(f"{bundle.MANIFEST}: its SHA-256 is {verdict.sealed}, not {digest}")
        if remote:
            verdict.faults.extend(_remote_differences(verdict.folder, remote))
    broken = [each for each in verdicts if each.faults]
    if as_json:
        reports = [asdict(each) | {"folder": str(each.folder)} for each in verdicts]
        say(json.dumps(reports, ensure_ascii=False, indent=4))
        raise typer.Exit(ArtifactError.exit_code if broken else 0)
    for verdict in verdicts:
        _print_report(verdict)
    if broken:
        faults = [f"{each.folder.name}: {fault}" for each in broken for fault in each.faults[: bundle.FAULTS_SHOWN]]
        rest = sum(len(each.faults[bundle.FAULTS_SHOWN :]) for each in broken)
        headline = f"{len(broken)} of {len(verdicts)} runs failed verification:"
        faults += [f"and {rest} more"] if rest else []
        raise combined_error(ArtifactError, headline, faults, fix="copy it from an intact copy, or run it again")


@app.command()
def seal(runs: Runs, remote: Remote = None, as_json: AsJson = False) -> None:
    """Verify runs, write their manifests and make their files read-only; sealing twice changes nothing.

    --remote then holds a copy against it, file by file; exit code 4 where one differs.
    """
    if remote and len(runs) > 1:
        raise UsageError("--remote applies to one run", fix="name one run")
    digests = {}
    for each in runs:
        folder = run_folder(each)
        digests[folder.name] = bundle.seal_bundle(folder)
        if not as_json:
            say(f"{folder.name}: sealed, manifest sha256 {digests[folder.name]}")
        if remote and (faults := _remote_differences(folder, remote)):
            sealed = f"is sealed (manifest sha256 {digests[folder.name]})"
            headline = f"{folder.name} {sealed}, but {remote} differs:"
            raise combined_error(
                ArtifactError, headline, faults, "copy it there again, with its manifest", bundle.FAULTS_SHOWN
            )
    if as_json:
        say(json.dumps(digests, indent=4))


def _remote_differences(folder: Path, remote: str) -> list[str]:
    """Which files of a bundle are not the same in a copy of it on another host."""
    from thunder.cluster.ssh import client, remote_digests

    host, _, path = remote.partition(":")
    if not path:
        raise UsageError(f"--remote {remote}: has no folder", fix="--remote HOST:FOLDER")
    files = bundle.read_manifest(folder)["files"]
    local_digests = {name: entry["sha256"] for name, entry in files.items()}
    local_digests[bundle.MANIFEST] = str(bundle.manifest_digest(folder))
    connection: client.Connection = client.LocalConnection() if host == "localhost" else client.connect_ssh(host)
    try:
        remote_sha256 = remote_digests.remote_file_digests(connection, path, local_digests)
    finally:
        connection.close()
    return [
        f"{name}: {'is missing' if name not in remote_sha256 else 'differs'} on {host}"
        for name, sha256 in local_digests.items()
        if remote_sha256.get(name) != sha256
    ]


def _print_report(verdict: bundle.BundleReport) -> None:
    state = "intact" if not verdict.faults else f"{len(verdict.faults)} faults"
    sealed = f"sealed {verdict.sealed[:12]}" if verdict.sealed else "not sealed"
    say(f"{verdict.folder.name}: {verdict.kind}, {state}, {sealed}, {verdict.rows} rows recomputed")
    for text in (*(f"skipped: {each}" for each in verdict.skipped), *verdict.notes):
        say(f"  {text}")
