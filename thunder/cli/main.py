"""`thunder`: one command with one file per subcommand, each imported only when it is called."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from thunder.cli.console.printed_commands import as_typed
from thunder.errors import Interrupted, ThunderError
from thunder.option_hints import best_hint

TRAINING, TEXT, SPEECH = "Training", "Corpora, evaluation and correction", "Speech"
RECORDS, CLUSTER = "Records and claims", "Machines and clusters"
GROUPS: dict[str, dict[str, tuple[str, str]]] = {  # group of the help -> command -> (module, help)
    TRAINING: {
        "train": ("thunder.cli.commands.training.train", "Train a LoRA adapter on a cluster (also: launch)."),
        "resume": ("thunder.cli.commands.training.resume", "Continue a run from its newest checkpoint."),
        "pretrain": ("thunder.cli.commands.training.pretrain", "Pretrain the tiny base model from open text."),
        "shapes": ("thunder.cli.commands.training.shapes", "List the shapes a chip can train: safe, likely, unsafe."),
        "calibrate": ("thunder.cli.commands.training.calibrate", "Measure how fast this machine computes."),
        "kernels": ("thunder.cli.commands.training.kernels", "Check this machine's kernels against their references."),
        "ckpt": ("thunder.cli.commands.training.ckpt", "Check checkpoints and adapters, tensor by tensor."),
    },
    TEXT: {
        "corpus": ("thunder.cli.commands.corpora.corpus", "Build and check corpora of correction rows."),
        "eval": (
            "thunder.cli.commands.evaluation.eval",
            "Evaluate an adapter: CER before and after correction (also: eval_agp_nko_adapter).",
        ),
        "generate": (
            "thunder.cli.commands.evaluation.generate",
            "Correct texts with an adapter, with the prompt of its training.",
        ),
        "fuse": (
            "thunder.cli.commands.evaluation.fuse",
            "Fuse an adapter into its base, and measure what is lost.",
        ),
        "agp": (
            "thunder.cli.commands.bridge.agp",
            "Run the bridge: propose, gate, sign, record; on files or as a service.",
        ),
        "report": ("thunder.cli.commands.evaluation.report", "Write one HTML page of a run, an evaluation or a log."),
    },
    SPEECH: {
        "asr": ("thunder.cli.commands.speech.asr", "Build features and n-grams; train and evaluate the recognizer."),
        "transcribe": (
            "thunder.cli.commands.speech.transcribe",
            "Turn recordings into admissible text: recognize, propose, gate, sign.",
        ),
        "audit": ("thunder.cli.commands.speech.audit", "Audit test-time training: rules of the test, and leakage."),
    },
    RECORDS: {
        "runs": ("thunder.cli.commands.records.runs", "List, filter and show runs."),
        "verify": ("thunder.cli.commands.records.verify", "Verify an artifact of any kind: name its path."),
        "bundle": ("thunder.cli.commands.records.bundle", "Check finished runs against their files, and seal them."),
        "drift": ("thunder.cli.commands.records.drift", "List how two runs differ, and whether they are comparable."),
        "memcheck": ("thunder.cli.commands.evaluation.memcheck", "Detect overfitting and test-set leakage in a run."),
        "hypothesis": (
            "thunder.cli.commands.records.hypothesis",
            "Freeze a hypothesis before a run, and evaluate it afterwards.",
        ),
        "matrix": ("thunder.cli.commands.records.matrix", "Check, plan, run and follow a matrix of runs."),
        "tables": ("thunder.cli.commands.records.tables", "Build tables from sealed runs, and detect manual edits."),
        "promote": ("thunder.cli.commands.evaluation.promote", "Check whether a result can be published."),
    },
    CLUSTER: {
        "status": (
            "thunder.cli.commands.cluster.status",
            "Check a cluster's hosts and the cable between them (also: thunder_status).",
        ),
        "doctor": (
            "thunder.cli.commands.cluster.doctor",
            "Check this machine: Python, packages, OpenBLAS, model, ports.",
        ),
        "gpu": (
            "thunder.cli.commands.records.gpu",
            "Run a matrix on rented GPUs; nothing is rented without --yes (also: vast).",
        ),
    },
}
HIDDEN = {  # aliases, and commands that ranks and hosts start
    "launch": ("thunder.cli.commands.training.train", "The same as train; ./launch.sh calls it."),
    "mlx_lm.lora": (
        "thunder.cli.commands.training.mlx_lm_lora",
        "Train with the options of a line of mlx_lm.lora.",
    ),
    "vast": ("thunder.cli.commands.records.gpu", "The same as gpu."),
    "rank": ("thunder.cli.commands.cluster.rank", "Run one rank of a run; train starts it."),
    "agent": ("thunder.cli.commands.cluster.agent", "Start a rank for a launcher on another host; train starts it."),
    "survey": ("thunder.cli.commands.cluster.survey", "Print the facts of this host that a job needs; train calls it."),
}
COMMANDS = {name: entry for group in GROUPS.values() for name, entry in group.items()} | HIDDEN
PANELS = {name: group for group, commands in GROUPS.items() for name in commands}
EXAMPLES = (
    ("./launch.sh", "train the shipped tiny model on the sample corpus, then test it"),
    ("./launch.sh --model MODEL --train-data rows.jsonl --iters 2000", "train your own model on your own rows"),
    ("./launch.sh eval --adapter runs/latest/adapters --rows rows.jsonl", "compare CER before and after correction"),
)


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
            hidden, panel = cmd_name in HIDDEN, PANELS.get(cmd_name)
            return TyperCommand(
                cmd_name, callback=None, help=text, short_help=text, hidden=hidden, rich_help_panel=panel
            )
        command = get_command(importlib.import_module(module).app)
        command.name = cmd_name
        _hint_by_meaning(command)
        if cmd_name == "launch":
            _show_overview_first(command)
        return command

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:
        """The list of subcommands, without importing any of them."""
        self.listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self.listing = False


def _hint_by_meaning(command: Any) -> None:
    """Make an unknown option of a command, or of one below it, name the option that is meant, not one like it."""
    parse = command.parse_args

    def parse_args(ctx: Any, words: list[str]) -> list[str]:
        try:
            return parse(ctx, words)
        except Exception as caught:
            error: Any = caught
            if hasattr(error, "possibilities"):  # typer's own copy of click's NoSuchOption
                shown = [param for param in command.params if not getattr(param, "hidden", False)]
                known = [flag for param in shown for flag in param.opts if flag.startswith("--")]
                hint = best_hint(error.option_name, known)
                error.possibilities = [hint] if hint else []
            raise

    command.parse_args = parse_args
    for below in getattr(command, "commands", {}).values():
        _hint_by_meaning(below)


def _show_overview_first(command: Any) -> None:
    """Put the list of all commands before the options in a command's help."""
    format_options = command.format_help

    def format_help(ctx: Any, formatter: Any) -> None:
        _print_overview()
        format_options(ctx, formatter)

    command.format_help = format_help


def _print_overview() -> None:
    """What `./launch.sh --help` shows before the options of training: every command in its group, and examples."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print("\nUsage: ./launch.sh [COMMAND] [OPTIONS]; without a command it trains, with the options below.\n")
    width = max(len(name) for name in PANELS)
    for title, commands in GROUPS.items():
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=width + 2)
        for name, (_, text) in commands.items():
            table.add_row(f"  [bold cyan]{name}[/]", text)
        console.print(f"[bold]{title}[/]")
        console.print(table)
    console.print("\n[bold]Examples[/]")
    for command, effect in EXAMPLES:
        console.print(f"  {command}\n      [dim]{effect}[/]", soft_wrap=True)
    console.print("\n`./launch.sh COMMAND --help` shows the options of a command.")


app = typer.Typer(cls=Lazy, no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    """Print the version and end, before click asks for a command."""
    if wanted:
        from thunder.version import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def thunder(
    version: bool = typer.Option(
        False, "--version", help="Print the version and end.", is_eager=True, callback=_print_version
    ),
) -> None:
    """Train, test and serve language technology on two Macs and a cable."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code and prints our errors without a traceback."""
    words = with_resume_value(pasted_line(list(sys.argv[1:] if arguments is None else arguments)))
    try:
        app(args=words, prog_name="thunder")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except ThunderError as error:
        if "--json" in words:
            print(
                json.dumps({"error": error.message, "fix": error.fix, "exit_code": error.exit_code}, ensure_ascii=False)
            )
        kind = "stopped" if isinstance(error, Interrupted) else "error"
        print(as_typed(f"{kind}: {error}"), file=sys.stderr)
        return error.exit_code
    except OSError as error:  # a full disk or a read-only folder is not a defect: print no traceback
        print(f"error: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        return ThunderError.exit_code
    except KeyboardInterrupt:
        print("stopped: nothing was started", file=sys.stderr)
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


def pasted_line(words: list[str]) -> list[str]:
    """A pasted line of mlx_lm's in its own spelling, `python -m mlx_lm lora ...` too, as our command `mlx_lm.lora`."""
    rest = words[2:] if len(words) > 2 and "python" in Path(words[0]).name and words[1] == "-m" else words
    if rest[:2] == ["mlx_lm", "lora"]:
        return ["mlx_lm.lora", *rest[2:]]
    return rest if rest and rest[0] == "mlx_lm.lora" else words


def entry() -> None:
    """Console script."""
    sys.exit(main())


def status_entry() -> None:
    """Console script `thunder_status`."""
    sys.exit(main(["status", *sys.argv[1:]]))


def eval_entry() -> None:
    """Console script `eval_agp_nko_adapter`."""
    sys.exit(main(["eval", *sys.argv[1:]]))
