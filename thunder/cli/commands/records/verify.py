"""`thunder verify PATH`: find out what kind of artifact lies at a path, and run the check of that kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from thunder.cli.console.output import say
from thunder.errors import ThunderError, UsageError
from thunder.launcher.runs_folder import run_folder

app = typer.Typer(add_completion=False)

# kind -> the command that checks it alone, with the options that this command leaves out
KINDS = {
    "adapter": "thunder ckpt verify",
    "checkpoint": "thunder ckpt verify",
    "weights file": "thunder ckpt verify",
    "run": "thunder ckpt verify, thunder bundle verify",
    "corpus": "thunder corpus verify",
    "feature store": "thunder asr verify",
    "provenance log": "thunder agp verify --log",
    "admissibility token": "thunder agp verify --token",
}
_LONGEST_TOKEN = 8192
_WEIGHTS = ("weights.safetensors", "optimizer_state.safetensors")


@app.command()
def verify(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Files, folders, or names of runs.", show_default=False)
    ],
    key_file: Annotated[str | None, typer.Option(help="Key file for a token or the records of a log.")] = None,
    allow_dev: Annotated[bool, typer.Option(help="Accept the development key's signature too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each path.")] = False,
) -> None:
    """Verify artifacts: an adapter, checkpoint, run, bundle, corpus, feature store, provenance log or token.

    The command looks at what lies at each path and runs the check of that kind. Every path is checked, also after a
    fault. The exit code is that of the first fault: 4 for a damaged artifact, 2 for a path that is none of these.
    """
    first_fault: ThunderError | None = None
    for path in paths:
        try:
            kind, place = artifact_kind(path)
            if not as_json:
                say(f"{path}: {kind}")
            _verify_kind(kind, place, key_file, allow_dev, quiet=as_json)
            if as_json:
                say(json.dumps({"path": path, "kind": kind, "ok": True}, ensure_ascii=False))
        except ThunderError as error:
            first_fault = first_fault or error
            if as_json:
                fault = {"path": path, "ok": False, "error": error.message, "exit_code": error.exit_code}
                say(json.dumps(fault, ensure_ascii=False))
            elif error is not first_fault:
                say(f"  {error}")
    if first_fault and as_json:
        raise typer.Exit(first_fault.exit_code)
    if first_fault:
        raise first_fault


def artifact_kind(path: str) -> tuple[str, Path]:
    """(kind, place) of what lies at a path, or of the run with that name; the kinds are those of `KINDS`.

    Raises UsageError where it is of no kind that can be verified.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return _kind_of_file(place), place
    if not place.is_dir():
        return "run", run_folder(path)
    if (place / "adapter_config.json").is_file():
        return "adapter", place
    manifest = _json_object(place / "manifest.json")
    if str(manifest.get("schema", "")).startswith("thunder.corpus/"):
        return "corpus", place
    index = _json_object(place / "index.json")
    if str(index.get("schema", "")).startswith("thunder.features/"):
        return "feature store", place
    if any((place / name).is_file() for name in _WEIGHTS):
        return "checkpoint", place
    if any((place / name).is_file() for name in ("config.yaml", "plan.json", "results.json")):
        return "run", place
    expected = ", ".join(KINDS)
    raise UsageError(
        f"{place}: not an artifact that can be verified; expected one of: {expected}", fix="name its folder"
    )


def _kind_of_file(file: Path) -> str:
    if file.suffix == ".safetensors":
        return "weights file"
    with file.open("rb") as stream:
        start = stream.read(_LONGEST_TOKEN + 1)
    if start.startswith(b"tta") and start.count(b".") == 2 and len(start.split()) == 1:
        return "admissibility token"
    if b'"prev_sha256"' in start.partition(b"\n")[0]:
        return "provenance log"
    raise UsageError(
        f"{file}: not a weights file (.safetensors), provenance log or admissibility token",
        fix="name one of these, or the folder of an artifact",
    )


def _json_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file, empty where the file is missing or damaged: its own check says so then."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _verify_kind(kind: str, place: Path, key_file: str | None, allow_dev: bool, *, quiet: bool) -> None:
    """Run the check of one kind. Raises ThunderError where it finds a fault."""
    from contextlib import nullcontext, redirect_stdout
    from io import StringIO

    with redirect_stdout(StringIO()) if quiet else nullcontext():
        if kind == "corpus":
            from thunder.cli.commands.corpora import corpus

            corpus.verify([place])
        elif kind == "feature store":
            from thunder.cli.commands.speech import asr_features

            asr_features.verify([place])
        elif kind == "provenance log":
            from thunder.cli.commands.bridge import agp

            agp.verify(log=place, key_file=key_file, allow_dev=allow_dev)
        elif kind == "admissibility token":
            from thunder.cli.commands.bridge import agp

            agp.verify(token=f"@{place}", key_file=key_file, allow_dev=allow_dev)
        else:
            _verify_weights(kind, place)


def _verify_weights(kind: str, place: Path) -> None:
    """The weights of an adapter, a checkpoint, a file or a run; for a finished run also its records."""
    from thunder.cli.commands.records import bundle
    from thunder.cli.commands.training import ckpt

    has_weights = kind != "run" or any(place.rglob("*.safetensors"))
    if has_weights:
        ckpt.verify(str(place))
    if kind == "run" and (place / "results.json").is_file():
        bundle.verify([str(place)])
    elif not has_weights:
        raise UsageError(f"{place}: the run has no weights and no results yet", fix="verify it when it has ended")
