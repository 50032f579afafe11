"""`thunder`: one command with one file per subcommand, each imported only when it is called."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from thunder.errors import Interrupted, ThunderError

COMMANDS = {
    "train": ("thunder.cli.commands.training.train", "Train a LoRA adapter on a cluster (also: launch)."),
    "launch": ("thunder.cli.commands.training.train", "The same as train; what ./launch.sh calls."),
    "resume": ("thunder.cli.commands.training.resume", "Continue a run from its newest checkpoint."),
    "pretrain": ("thunder.cli.commands.training.pretrain", "Pretrain the tiny base model from open text."),
    "eval": (
        "thunder.cli.commands.evaluation.eval",
        "Does an adapter repair? CER before and after (also: eval_agp_nko_adapter).",
    ),
    "transcribe": (
        "thunder.cli.commands.speech.transcribe",
        "Recordings to admissible text: recognise, propose, gate, sign.",
    ),
    "agp": ("thunder.cli.commands.bridge.agp", "The bridge: propose, gate, sign, record; offline or as a service."),
    "report": (
        "thunder.cli.commands.evaluation.report",
        "One page to look at: a run, an evaluation, or a log of decisions.",
    ),
    "corpus": ("thunder.cli.commands.corpora.corpus", "Make and check corpora."),
    "runs": ("thunder.cli.commands.records.runs", "List, filter and show runs."),
    "bundle": (
        "thunder.cli.commands.records.bundle",
        "Check finished runs against their rows and digests, and seal them.",
    ),
    "memcheck": (
        "thunder.cli.commands.evaluation.memcheck",
        "Did a run learn, learn by heart, or see what it was tested on?",
    ),
    "hypothesis": (
        "thunder.cli.commands.records.hypothesis",
        "Say what a run will mean before it is run, and hold it against that.",
    ),
    "matrix": ("thunder.cli.commands.records.matrix", "Check, plan, run and follow a matrix of runs."),
    "ckpt": ("thunder.cli.commands.training.ckpt", "Check checkpoints and adapters, tensor by tensor."),
    "audit": (
        "thunder.cli.commands.speech.audit",
        "Is test-time training tested within the rules, and trained without the test?",
    ),
    "promote": (
        "thunder.cli.commands.evaluation.promote",
        "May a claim leave the house? Every criterion, and no way around one.",
    ),
    "drift": ("thunder.cli.commands.records.drift", "In what do two runs differ, and can they be compared?"),
    "asr": ("thunder.cli.commands.speech.asr", "The recogniser: features, n-grams, training, evaluation."),
    "tables": (
        "thunder.cli.commands.records.tables",
        "Make tables from sealed runs, and find what was changed by hand.",
    ),
    "gpu": (
        "thunder.cli.commands.records.gpu",
        "Run a matrix on rented GPUs; nothing is rented without --yes (also: vast).",
    ),
    "vast": ("thunder.cli.commands.records.gpu", "The same as gpu."),
    "kernels": ("thunder.cli.commands.training.kernels", "Check this machine's kernels against their references."),
    "calibrate": ("thunder.cli.commands.training.calibrate", "Measure how fast this machine computes."),
    "shapes": ("thunder.cli.commands.training.shapes", "Which shapes a chip can train: safe, likely, unsafe."),
    "doctor": ("thunder.cli.commands.cluster.doctor", "Check this machine: Python, packages, OpenBLAS, model, ports."),
    "status": (
        "thunder.cli.commands.cluster.status",
        "Check a cluster's hosts and the cable between them (also: thunder_status).",
    ),
    "rank": ("thunder.cli.commands.cluster.rank", "One rank of a run; started by train."),
    "agent": ("thunder.cli.commands.cluster.agent", "Starts a rank for a launcher on another host; started by train."),
    "survey": ("thunder.cli.commands.cluster.survey", "What a job would find on this host; asked by train."),
}
HIDDEN = {"rank", "agent", "survey", "vast"}


class Lazy(TyperGroup):
    """A group that knows its subcommands' names and one-line helps without importing them."""

    listing = False

    def list_commands(self, ctx: typer.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:
        """The subcommand; while the list is printed, only its name and help."""
        if cmd_name not in COMMANDS:
            return None
        module, text = COMMANDS[cmd_name]
        if self.listing:
            return TyperCommand(cmd_name, callback=None, help=text, short_help=text, hidden=cmd_name in HIDDEN)
        command = get_command(importlib.import_module(module).app)
        command.name = cmd_name
        return command

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:
        """The list of subcommands, without importing any of them."""
        self.listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self.listing = False


app = typer.Typer(cls=Lazy, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def thunder(
    ctx: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and end.", is_eager=True),
) -> None:
    """Train, test and serve language technology on two Macs and a cable."""
    if version:
        from thunder import __version__

        typer.echo(__version__)
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code and prints our errors without a traceback."""
    words = with_resume_value(list(sys.argv[1:] if arguments is None else arguments))
    try:
        app(args=words, prog_name="thunder")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except ThunderError as error:
        if "--json" in words:
            print(
                json.dumps({"error": error.message, "fix": error.fix, "exit_code": error.exit_code}, ensure_ascii=False)
            )
        print(f"{'stopped' if isinstance(error, Interrupted) else 'error'}: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # a full disk, a folder that cannot be written: no bug of ours, so no traceback
        print(f"error: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        return ThunderError.exit_code
    except KeyboardInterrupt:
        print("stopped: before anything was started", file=sys.stderr)
        return Interrupted.exit_code
    return 0


def with_resume_value(words: list[str]) -> list[str]:
    """`--resume` by itself means the newest run: put in the 'latest' that the flag then needs."""
    out = []
    for place, word in enumerate(words):
        out.append(word)
        if word == "--resume" and (place + 1 == len(words) or words[place + 1].startswith("-")):
            out.append("latest")
    return out


def entry() -> None:
    """Console script."""
    sys.exit(main())


def status_entry() -> None:
    """Console script `thunder_status`."""
    sys.exit(main(["status", *sys.argv[1:]]))


def eval_entry() -> None:
    """Console script `eval_agp_nko_adapter`."""
    sys.exit(main(["eval", *sys.argv[1:]]))
