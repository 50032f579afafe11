"""Show a job in a terminal: the plan as a table, one live line (plain lines without a terminal), the result."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from thunder.cli.console import acoustic_lines
from thunder.cli.console.printed_commands import as_typed
from thunder.launcher.plan import Plan, RowCounts
from thunder.text.chat import CORRECTION_INSTRUCTION
from thunder.units import format_count, format_path

talk = Console(stderr=True, highlight=False)
COLOURS = {"ok": "green", "warning": "yellow", "failure": "red"}


def print_plan(plan: Plan) -> None:
    """The plan as a table, on stderr."""
    table = Table(
        title=Text(f"plan: {plan.job} {plan.run}"),
        title_justify="left",
        show_header=False,
        box=None,
        padding=(0, 2, 0, 0),
    )
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, text in plan_rows(plan):
        table.add_row(name, Text(text))
    talk.print(table)


def plan_rows(plan: Plan) -> list[tuple[str, str]]:
    """The plan as (name, text) pairs."""
    return [*_model_rows(plan), *_data_rows(plan), *_training_rows(plan), *_note_rows(plan)]


def _model_rows(plan: Plan) -> list[tuple[str, str]]:
    rows, cluster = [], plan.cluster
    if model := plan.model:
        rows.append(("model", f"{model.name} ({model.source}), {model.type}, {model.layers} layers"))
        rows.append(("template", model.template))
    hosts = ", ".join(f"{rank.host} {rank.address.rpartition(':')[0]}" for rank in plan.ranks)
    rows.append(("cluster", f"{cluster.name}: {cluster.ranks} ranks ({cluster.reason}): {hosts}"))
    return rows


def _data_rows(plan: Plan) -> list[tuple[str, str]]:
    rows, data = [], plan.data
    if plan.acoustic:
        rows += acoustic_lines.plan_rows(plan.acoustic, plan.settings)
    if data and data.train and data.valid:
        train, valid = data.train, data.valid
        rows += [("data", note) for note in data.notes]
        rows.append(
            (
                "rows",
                f"{train.rows} train, {valid.rows} valid, {data.test_rows} test; "
                f"{format_count(train.supervised_tokens or 0)} of {format_count(train.tokens or 0)} training tokens "
                f"supervised ({train.supervised_share or 0:.0%})",
            )
        )
        for part, counts in (("train", train), ("valid", valid)):
            rows += over_limit(part, counts, plan.settings["max_seq_length"])
    return rows


def _training_rows(plan: Plan) -> list[tuple[str, str]]:
    settings, batch, length = plan.settings, plan.batch, plan.length
    accumulated = f" x {batch.grad_accumulation_steps} accumulated" if batch.grad_accumulation_steps > 1 else ""
    epochs = f", {length.epochs:.2f} epochs" if length.epochs else ""
    rows = [
        ("batch", f"{batch.per_rank} per rank, {batch.global_} global{accumulated}"),
        ("length", f"{length.iterations} iterations, {length.updates} updates{epochs}"),
    ]
    if "lora_rank" in settings:
        layers = "all" if settings["num_layers"] == -1 else f"last {settings['num_layers']}"
        rows.append(("LoRA", f"{layers} layers, rank {settings['lora_rank']}, scale {settings['lora_scale']:g}"))
    if engine := plan.engine:
        rows.append(("engine", f"{engine.name}: {engine.reason} (prefix cache: {settings['prefix_cache']})"))
    rate, form = settings["learning_rate"], settings.get("lr_scheduler_type", "cosine")
    rows.append(
        ("optimizer", f"AdamW, {rate:g} after {settings['warmup']} updates, {form} to {rate * settings['lr_final']:g}")
    )
    if shape := plan.shape:
        rows.append(("shape", f"{shape.verdict} on {shape.chip}: {shape.reason}"))
    return rows


def _note_rows(plan: Plan) -> list[tuple[str, str]]:
    rows = [("environment", note) for note in plan.environment]
    rows += [("note", note) for note in plan.notes]
    sources: dict[str, list[str]] = {}
    for name, source in plan.sources.items():
        if source != "default":
            sources.setdefault(source, []).append(name)
    return rows + [("options from", f"{source}: {', '.join(names)}") for source, names in sources.items()]


def over_limit(part: str, counts: RowCounts, limit: int) -> list[tuple[str, str]]:
    """Lines on the rows of one part that do not fit, if any."""
    rows = []
    if counts.rows_cut_at_limit:
        rows.append(("over limit", f"{part}: {counts.rows_cut_at_limit} rows cut at {limit} tokens"))
    if counts.rows_left_out:
        named = ", ".join(counts.left_out_sources[:5])
        text = f"{part}: {counts.rows_left_out} rows left out, their completion lies beyond {limit} tokens: {named}"
        rows.append(("over limit", text))
    if counts.control_token_rows:
        named = ", ".join(counts.control_token_sources[:5])
        text = f"{part}: {counts.control_token_rows} rows name control tokens of the model in their texts: {named}; "
        rows.append(("template", text + "they are tokenized as text, not as turns"))
    return rows


class TerminalDisplay:
    """One live line on stderr; plain lines where there is no terminal."""

    def __init__(self, total_steps: int) -> None:
        self.is_live = talk.is_terminal and not os.environ.get("CI")
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[detail]}"),
            console=talk,
            transient=True,
            disable=not self.is_live,
        )
        self._task = self._bar.add_task("starting", total=total_steps, detail="")

    def __enter__(self) -> TerminalDisplay:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show_line(self, text: str) -> None:
        """A line above the live one."""
        if self.is_live:
            self._bar.console.print(text, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def show_progress(
        self, *, phase: str | None = None, done: int | None = None, total: int | None = None, detail: str | None = None
    ) -> None:
        """Change the live line."""
        values: dict[str, Any] = {"description": phase, "completed": done, "total": total, "detail": detail}
        self._bar.update(self._task, **{name: value for name, value in values.items() if value is not None})


class TerminalConsole:
    """Shows a job on stderr."""

    def say(self, text: str) -> None:
        """A line about the job."""
        talk.print(text, markup=False)

    def show_plan(self, plan: Plan) -> None:
        """The plan as a table."""
        print_plan(plan)

    def display(self, total_steps: int) -> TerminalDisplay:
        """A live line."""
        return TerminalDisplay(total_steps)


def print_result(plan: Plan, folder: Path, results: Mapping[str, Any]) -> None:
    """The result and the next useful commands, on stdout."""
    kind, where = plan.job, format_path(folder)
    print(f"{kind} done: {results['steps']} steps, {results['epochs_begun']} epochs begun, {where}")
    if results.get("best_valid_loss") is not None:
        print(f"  best validation loss {results['best_valid_loss']:.4f} at step {results['best_step']}")
    if "bits_per_byte" in (last := results.get("validation") or {}):
        print(
            f"  held-out text: {last['valid_loss']:.4f} nats per token, {last['bits_per_byte']:.4f} bits per byte; "
            f"repairs {last['repair_loss']:.4f} nats per token; {results['wraps']:.2f} epochs over the text"
        )
    if fault := results.get("test_fault"):
        print(f"  warning: the test failed, the trained weights are kept: {fault}")
    if (test := results.get("test")) and kind == "asr":
        print(f"  {acoustic_lines.format_test(test)}")
    elif test:
        print(
            f"  test CER {test['cer_before']:.4f} -> {test['cer_after']:.4f} on {test['rows']} rows "
            f"(recognised text {test['cer_asr']:.4f}); "
            f"{test['improved']} better, {test['unchanged']} same, {test['worse']} worse"
        )
    if unmeasured := nothing_measured(plan, results):
        print(f"  {unmeasured}")
    print("next:")
    for command in next_commands(plan, where, bool(test)):
        print(f"  {as_typed(command)}")


def nothing_measured(plan: Plan, results: Mapping[str, Any]) -> str | None:
    """A warning where neither validation nor test rows told what the run learned."""
    if plan.job != "train" or results.get("test") or results.get("best_valid_loss") is not None:
        return None
    return (
        "warning: nothing was measured, for the run had no validation and no test rows; name some with --valid-data "
        "and --test-data, or give more training rows"
    )


def next_commands(plan: Plan, where: str, tested: bool) -> list[str]:
    """Commands that people often run next."""
    python = format_path(Path(sys.executable))
    if plan.job == "pretrain":
        return [
            f"{python} -m mlx_lm generate --model {where}/model --prompt '...'",
            f"./launch.sh --model {where}/model",
        ]
    if plan.job == "asr":
        return [f"less {where}/test_predictions.jsonl", f"thunder asr eval --run {where}"]
    look = [f"./launch.sh report {where}"] if tested else []
    return [
        *look,
        f"./launch.sh generate --adapter-path {where}/adapters{_decoding_options(plan)} '...'",
        f"{python} -m mlx_lm generate {_mlx_lm_options(plan)} --adapter-path {where}/adapters {MLX_LM_PROMPT}",
        f"./launch.sh train -c {where}/config.yaml --seed 1",
    ]


MLX_LM_PROMPT = f'--prompt "{CORRECTION_INSTRUCTION}\\n..."'
"""How a shell hands the prompt of a correction to mlx_lm, which reads `\\n` as a line end."""


def _decoding_options(plan: Plan) -> str:
    """The decoding options of the run's test, with which other commands give its answers."""
    names = ("chunk_words", "min_margin", "change_margin", "change_edits")
    chosen = {name: plan.settings.get(name) for name in names}
    return "".join(f" --{name.replace('_', '-')} {value}" for name, value in chosen.items() if value)


def _mlx_lm_options(plan: Plan) -> str:
    """The options with which mlx_lm renders the prompt that was trained on."""
    model = plan.model.generation_path or plan.model.path if plan.model else ""
    options = f"--model {format_path(Path(model))}"
    if plan.model and plan.model.chat_template_config:
        options += f" --chat-template-config {shlex.quote(json.dumps(plan.model.chat_template_config))}"
    return options


def print_findings(console: Console, findings: Iterable[Mapping[str, str]]) -> None:
    """Print findings, a line each, and below a failure its fix; for `doctor` and `status`."""
    for finding in findings:
        console.print(f"[{COLOURS[finding['state']]}]{finding['state']:8}[/] {finding['check']:14}", end="")
        console.print(f"{finding['where']}: {finding['found']}", markup=False, soft_wrap=True)
        if finding["fix"]:
            console.print(f"{'':23}to fix: {as_typed(finding['fix'])}", markup=False, soft_wrap=True)
