"""`thunder agp`: recognised text over the bridge: propose, gate, token, provenance."""

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

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Recognised text over the bridge.")
key = typer.Typer(add_completion=False, no_args_is_help=True, help="Keys that sign tokens and records.")
app.add_typer(key, name="key")
app.command("eval")(agp_eval.evaluate)
app.command("report")(report.log_report)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]
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

        def told(where: dict[str, Any]) -> None:
            told_too = where | {"records": log.lines, "repaired": log.repaired or None}
            if as_json:
                return say(json.dumps(told_too, ensure_ascii=False))
            if log.repaired:
                say(f"{log.path}: {log.repaired}")
            say(f"{where['url']}: engine {where['engine']}, rules {where['rules_id']}, key {where['signing']}")
            say(f"{log.path}: {log.lines} records; Ctrl-C or SIGTERM ends it when all is answered")

        server.serve_bridge(settings, book, ring, log, told)


@app.command()
@flags(ProposeSettings)
def propose(
    file: Annotated[Path, typer.Argument(help="Rows (JSONL) of recognised text, with references or without.")],
    config: ConfigFile = None,
    as_json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    """Take the rows of a file over the bridge, as one batch; exit code 3 where the batch as a whole is stopped."""
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
            decisions, why = bridge.propose_cases(read.cases, progress)
    lines = "".join(json.dumps(proposers.decision_line(each), ensure_ascii=False) + "\n" for each in decisions)
    if out:
        write_atomically(out, lines)
    else:
        say(lines.removesuffix("\n"))
    counts = {kind: sum(each.verdict.decision == kind for each in decisions) for kind in ("accept", "reject", "keep")}
    told = {"rows": len(decisions), **counts, "tokens": sum(bool(each.token) for each in decisions), "breaker": why}
    typer.echo(json.dumps(told) if as_json else _summary_line(told), err=not out)
    if why:
        raise GateError(f"the batch was stopped: {why}", fix="look at the proposals before anything of them is taken")


def _output_file(settings: ProposeSettings, rows: Path) -> Path:
    """The file for the decisions: better said before they are made that it cannot be had. Raises UsageError."""
    out = Path(str(settings.out)).expanduser()
    setting_paths.check_writable(out.parent)
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder", fix="--out FILE")
    kept = {"the rows": rows.expanduser(), "the log": _log_path(settings)}
    kind, _, path_of_engine = settings.engine.partition(":")
    named = {
        "proposals": path_of_engine if kind == "file" else None,
        "keys": os.environ.get(keys.KEY_FILE_VARIABLE),
        "rules": settings.gate_rules,
        "a token": settings.engine_bearer_file,
    }
    kept |= {what: Path(path).expanduser() for what, path in named.items() if path}
    for what, path in kept.items():
        if out.resolve() == path.resolve():
            raise UsageError(f"--out {out}: there are {what} in it", fix="--out FILE of another name")
    return out


def _summary_line(told: dict[str, Any]) -> str:
    return (
        f"{told['rows']} rows: {told['accept']} accepted, {told['reject']} rejected, {told['keep']} kept; "
        f"{told['tokens']} are admissible"
    )


@key.command("new")
def new_key(
    file: Annotated[
        Path | None, typer.Option(help=f"Key file (default: the one {keys.KEY_FILE_VARIABLE} names).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key; in a file that has keys already it signs from now on, and the others still verify."""
    named = file or (Path(os.environ[keys.KEY_FILE_VARIABLE]) if os.environ.get(keys.KEY_FILE_VARIABLE) else None)
    if named is None:
        raise UsageError("where shall the key be?", fix=f"--file PATH, or {keys.KEY_FILE_VARIABLE}=PATH")
    ring = keys.add_new_key(named.expanduser())
    told = {"file": str(named), "active": ring.active, "keys": len(ring.keys)}
    say(json.dumps(told) if as_json else f"{named}: key {ring.active} signs; {len(ring.keys)} keys verify")


BoundValue = Annotated[str | None, typer.Option(help="What the token should bind, where that is known.")]
BoundText = Annotated[str | None, typer.Option(help="The text, or @FILE with it (no line end is added or taken away).")]


@app.command()
def verify(
    log: Annotated[Path | None, typer.Option(help="Provenance log to read from its first to its last record.")] = None,
    token: Annotated[str | None, typer.Option(help="Token to check, or @FILE with it.")] = None,
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
    allow_dev: Annotated[bool, typer.Option(help="Take the development key's signature too.")] = False,
    as_json: Json = False,
) -> None:
    """Check a token, a log, or that a log holds a token's decision; exit code 4 where something does not hold.

    Says ok, malformed, bad_signature, unknown_key, dev_key, mismatch:FIELD, chain_broken@LINE or torn@LINE.
    """
    from thunder.cli.commands.bridge.agp_verify import check_token_and_log

    texts = {"input": input, "proposal": proposal, "output": output}
    ids = {"base": base, "adapter": adapter, "prompt": prompt, "decoding": decoding, "rules": rules, "row": row}
    if token is None and log is None:
        raise UsageError("nothing to check", fix="--token TOKEN, --log LOG or both")
    found = check_token_and_log(log, token, texts, ids, key_file, allow_dev)
    lines = [f"{name}: {said}" for name, said in found.items()]
    say(json.dumps(found, ensure_ascii=False) if as_json else "\n".join(lines))
    if any(found.get(name, "ok") != "ok" for name in ("log", "token")):
        raise ArtifactError(f"it does not hold: {', '.join(lines)}")


def _build_settings(kind: type[Any], config: Path | None, given: dict[str, Any]) -> Any:
    return build_settings(kind, file_and_flags(kind, config, given))[0]


def _log_path(settings: BridgeSettings) -> Path:
    return Path(settings.log).expanduser() if settings.log else job_runner.runs() / "agp" / LOG_FILE
