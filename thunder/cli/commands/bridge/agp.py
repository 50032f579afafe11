"""`thunder agp`: corrections of recognized text through the gate, with tokens and a provenance log."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from thunder.bridge.bridge_settings import BridgeSettings, ProposeSettings, ServeSettings
from thunder.bridge.proof import keys
from thunder.cli.commands.bridge import agp_eval
from thunder.cli.commands.evaluation import report
from thunder.cli.console.output import say
from thunder.cli.parsing.flags import ConfigFile, flags
from thunder.config import build_settings
from thunder.errors import ArtifactError, GateError, UsageError
from thunder.launcher import job_runner
from thunder.launcher.options import setting_paths
from thunder.launcher.options.setting_layers import file_and_flags

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Correct recognized text through the gate.")
key = typer.Typer(add_completion=False, no_args_is_help=True, help="Keys that sign tokens and records.")
app.add_typer(key, name="key")
app.command("eval")(agp_eval.evaluate)
app.command("report")(report.log_report)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
LOG_FILE = "provenance.jsonl"


@app.command()
@flags(ServeSettings)
def serve(config: ConfigFile = None, as_json: Json = False, *, given: dict[str, Any]) -> None:
    """Serve the bridge over HTTP (GET /health, POST /propose, GET /openapi.json) until SIGTERM."""
    from thunder.bridge import proposers
    from thunder.bridge.proof.provenance import ProvenanceLog
    from thunder.bridge.service import server

    settings: ServeSettings = _build_settings(ServeSettings, config, given)
    proposers.check_engine_options(settings)
    book, ring = proposers.load_rulebook(settings), keys.choose_key_ring(settings.key_file, settings.dev_key)
    with ProvenanceLog(_log_path(settings), ring) as log:

        def on_start(address: dict[str, Any]) -> None:
            if as_json:
                state = {"records": log.lines, "repaired": log.repaired or None}
                return say(json.dumps(address | state, ensure_ascii=False))
            if log.repaired:
                say(f"{log.path}: {log.repaired}")
            say(f"{address['url']}: engine {address['engine']}, rules {address['rules_id']}, key {address['signing']}")
            say(f"{log.path}: {log.lines} records; Ctrl-C or SIGTERM stops the service after the requests in flight")

        server.serve_bridge(settings, book, ring, log, on_start)


@app.command()
@flags(ProposeSettings)
def propose(
    file: Annotated[Path, typer.Argument(help="Rows (JSONL) of recognized text, with or without references.")],
    config: ConfigFile = None,
    as_json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    """Decide on the rows of a file as one batch; the exit code is 3 where the batch is stopped."""
    from thunder.api.bridge_session import Bridge
    from thunder.bridge import proposers
    from thunder.cli.console.answer_progress import AnswerProgress
    from thunder.digest import write_atomically
    from thunder.evaluation import cases

    settings: ProposeSettings = _build_settings(ProposeSettings, config, given)
    bridge = Bridge.from_settings(settings)
    out = _output_file(settings, file) if settings.out else None
    read = cases.read_cases(file.expanduser(), settings.limit, "missing")
    bridge.row_ids = read.all_ids
    with bridge:
        if bridge.log.repaired:
            typer.echo(f"{bridge.log.path}: {bridge.log.repaired}", err=True)
        with AnswerProgress(len(read.cases)) as progress:
            decisions, reason = bridge.propose_cases(read.cases, progress)
    lines = "".join(json.dumps(proposers.decision_line(each), ensure_ascii=False) + "\n" for each in decisions)
    if out:
        write_atomically(out, lines)
    else:
        say(lines.removesuffix("\n"))
    counts = {kind: sum(each.verdict.decision == kind for each in decisions) for kind in ("accept", "reject", "keep")}
    summary = {
        "rows": len(decisions),
        **counts,
        "tokens": sum(bool(each.token) for each in decisions),
        "breaker": reason,
    }
    typer.echo(json.dumps(summary) if as_json else _summary_line(summary), err=not out)
    if reason:
        raise GateError(f"the batch was stopped: {reason}", fix="examine the proposals before you use any of them")


def _output_file(settings: ProposeSettings, rows: Path) -> Path:
    """The file for the decisions, checked before any decision is made. Raises UsageError."""
    out = Path(str(settings.out)).expanduser()
    setting_paths.check_writable(out.parent)
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder", fix="name a file: --out FILE")
    used = {"the rows": rows.expanduser(), "the log": _log_path(settings)}
    kind, _, path_of_engine = settings.engine.partition(":")
    named = {
        "proposals": path_of_engine if kind == "file" else None,
        "keys": os.environ.get(keys.KEY_FILE_VARIABLE),
        "rules": settings.gate_rules,
        "a token": settings.engine_bearer_file,
    }
    used |= {what: Path(path).expanduser() for what, path in named.items() if path}
    for what, path in used.items():
        if out.resolve() == path.resolve():
            raise UsageError(f"--out {out}: this file holds {what}", fix="name another file: --out FILE")
    return out


def _summary_line(summary: dict[str, Any]) -> str:
    return (
        f"{summary['rows']} rows: {summary['accept']} accepted, {summary['reject']} rejected, {summary['keep']} kept; "
        f"{summary['tokens']} are admissible"
    )


@key.command("new")
def new_key(
    file: Annotated[
        Path | None, typer.Option(help=f"Key file (default: the one {keys.KEY_FILE_VARIABLE} names).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key. It signs from now on; the other keys of the file still verify."""
    named = file or (Path(os.environ[keys.KEY_FILE_VARIABLE]) if os.environ.get(keys.KEY_FILE_VARIABLE) else None)
    if named is None:
        raise UsageError("no key file is named", fix=f"--file PATH, or {keys.KEY_FILE_VARIABLE}=PATH")
    ring = keys.add_new_key(named.expanduser())
    result = {"file": str(named), "active": ring.active, "keys": len(ring.keys)}
    say(json.dumps(result) if as_json else f"{named}: key {ring.active} signs; {len(ring.keys)} keys verify")


BoundValue = Annotated[str | None, typer.Option(help="Value that the token must have, where it is known.")]
BoundText = Annotated[str | None, typer.Option(help="The text, or @FILE (no line end is added or removed).")]


@app.command()
def verify(
    log: Annotated[Path | None, typer.Option(help="Provenance log to check from its first to its last record.")] = None,
    token: Annotated[str | None, typer.Option(help="Token to check, or @FILE.")] = None,
    input: BoundText = None,
    proposal: BoundText = None,
    output: BoundText = None,
    base: BoundValue = None,
    adapter: BoundValue = None,
    prompt: BoundValue = None,
    decoding: BoundValue = None,
    rules: BoundValue = None,
    row: BoundValue = None,
    key_file: Annotated[
        str | None, typer.Option(help=f"Key file (default: the one {keys.KEY_FILE_VARIABLE} names).")
    ] = None,
    allow_dev: Annotated[bool, typer.Option(help="Also accept signatures of the development key.")] = False,
    as_json: Json = False,
) -> None:
    """Check a token, a log, or that a log holds the decision of a token; the exit code is 4 where a check fails.

    Prints ok, malformed, bad_signature, unknown_key, dev_key, mismatch:FIELD, chain_broken@LINE or torn@LINE.
    """
    from thunder.cli.commands.bridge.agp_verify import check_token_and_log

    texts = {"input": input, "proposal": proposal, "output": output}
    ids = {"base": base, "adapter": adapter, "prompt": prompt, "decoding": decoding, "rules": rules, "row": row}
    if token is None and log is None:
        raise UsageError("nothing to check", fix="--token TOKEN, --log LOG or both")
    results = check_token_and_log(log, token, texts, ids, key_file, allow_dev)
    lines = [f"{name}: {result}" for name, result in results.items()]
    say(json.dumps(results, ensure_ascii=False) if as_json else "\n".join(lines))
    if any(results.get(name, "ok") != "ok" for name in ("log", "token")):
        raise ArtifactError(f"the check failed: {', '.join(lines)}")


def _build_settings(kind: type[Any], config: Path | None, given: dict[str, Any]) -> Any:
    return build_settings(kind, file_and_flags(kind, config, given))[0]


def _log_path(settings: BridgeSettings) -> Path:
    return Path(settings.log).expanduser() if settings.log else job_runner.runs() / "agp" / LOG_FILE
