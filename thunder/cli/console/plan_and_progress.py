"""What people see of a job: the plan as a table, one live line (plain lines where there is no terminal), the result."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from thunder.cli.console import acoustic_lines
from thunder.runs.records.run_record import LOG
from thunder.units import format_bytes, format_count, format_path, format_seconds

talk = Console(stderr=True, highlight=False)
COLOURS = {"ok": "green", "warning": "yellow", "failure": "red"}


def print_plan(plan: dict[str, Any]) -> None:
    """The plan as a table, on stderr."""
    table = Table(
        title=Text(f"plan: {plan['job']} {plan['run']}"),
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


def plan_rows(plan: dict[str, Any]) -> list[tuple[str, str]]:
    """The plan as (what, text) pairs: all of it derives from the JSON."""
    settings, batch, length = plan["settings"], plan["batch"], plan["length"]
    cluster = plan["cluster"]
    rows = []
    if model := plan.get("model"):
        rows.append(("model", f"{model['name']} ({model['source']}), {model['type']}, {model['layers']} layers"))
        rows.append(("template", model["template"]))
    hosts = ", ".join(f"{rank['host']} {rank['address'].rpartition(':')[0]}" for rank in plan["ranks"])
    rows.append(("cluster", f"{cluster['name']}: {cluster['ranks']} ranks ({cluster['reason']}): {hosts}"))
    if acoustic := plan.get("acoustic"):
        rows += acoustic_lines.plan_rows(acoustic, settings)
    if (data := plan.get("data")) and "valid" in data:
        train = data["train"]
        rows += [("data", note) for note in data["notes"]]
        rows.append(
            (
                "rows",
                f"{train['rows']} train, {data['valid']['rows']} valid, {data['test_rows']} test; "
                f"{format_count(train['supervised_tokens'])} of {format_count(train['tokens'])} training tokens "
                f"supervised ({train['supervised_share']:.0%})",
            )
        )
        for part in ("train", "valid"):
            rows += over_limit(part, data[part], settings["max_seq_length"])
    accumulated = f" x {batch['grad_accumulation_steps']} accumulated" if batch["grad_accumulation_steps"] > 1 else ""
    rows.append(("batch", f"{batch['per_rank']} per rank, {batch['global']} global{accumulated}"))
    epochs = f", {length['epochs']:.2f} epochs" if length["epochs"] else ""
    rows.append(("length", f"{length['iterations']} iterations, {length['updates']} updates{epochs}"))
    if "lora_rank" in settings:
        layers = "all" if settings["num_layers"] == -1 else f"last {settings['num_layers']}"
        rows.append(("LoRA", f"{layers} layers, rank {settings['lora_rank']}, scale {settings['lora_scale']:g}"))
    if engine := plan.get("engine"):
        cache = settings["prefix_cache"]
        rows.append(("engine", f"{engine['name']}: {engine['reason']} (prefix cache: {cache})"))
    rate = settings["learning_rate"]
    rows.append(
        ("optimizer", f"AdamW, {rate:g} after {settings['warmup']} updates, cosine to {rate * settings['lr_final']:g}")
    )
    if shape := plan.get("shape"):
        rows.append(("shape", f"{shape['verdict']} on {shape['chip']}: {shape['reason']}"))
    rows += [("environment", note) for note in plan["environment"]]
    rows += [("note", note) for note in plan["notes"]]
    sources: dict[str, list[str]] = {}
    for name, source in plan["sources"].items():
        if source != "default":
            sources.setdefault(source, []).append(name)
    rows += [("options from", f"{source}: {', '.join(names)}") for source, names in sources.items()]
    return rows


def over_limit(part: str, counts: dict[str, Any], limit: int) -> list[tuple[str, str]]:
    """What became of the rows of one part that do not fit, or nothing."""
    rows = []
    if counts["rows_cut_at_limit"]:
        rows.append(("over limit", f"{part}: {counts['rows_cut_at_limit']} rows cut at {limit} tokens"))
    if counts["rows_left_out"]:
        named = ", ".join(counts["left_out_sources"][:5])
        text = f"{part}: {counts['rows_left_out']} rows left out, their completion lies beyond {limit} tokens: {named}"
        rows.append(("over limit", text))
    if counts["prompts_unlike"]:
        text = f"{part}: in {counts['prompts_unlike']} rows the template's prompt is no prefix of the row: "
        rows.append(("template", text + "supervised from where they part"))
    return rows


class Screen:
    """Follows the events of all ranks; what it shows comes from rank 0's metrics."""

    def __init__(self, total: int, folder: Path) -> None:
        self.total, self.folder = total, folder
        self.live = talk.is_terminal and not os.environ.get("CI")
        self.values: dict[str, Any] = {}
        self.phases: dict[int, str] = {}
        self.tested: dict[int, tuple[int, int]] = {}
        self._said_test = 0.0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[rest]}"),
            console=talk,
            transient=True,
            disable=not self.live,
        )
        self._task = self._bar.add_task("starting", total=total, rest="")

    def __enter__(self) -> Screen:
        self._log = (self.folder / LOG).open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        with contextlib.suppress(OSError):
            self._log.close()

    def on_event(self, rank: int, event: dict[str, Any]) -> None:
        """One event of one rank."""
        kind = event.get("event")
        if kind == "phase":
            self._phase(rank, event)
        elif kind == "metrics" and rank == 0:
            self._metrics(event)
        elif kind == "log":
            self.say(str(event.get("text")))
        elif kind == "test":
            self._test(rank, event)

    def _phase(self, rank: int, event: dict[str, Any]) -> None:
        before, phase = self.phases.get(rank), str(event.get("phase"))
        self.phases[rank] = phase
        if rank == 0:
            self._bar.update(self._task, description=phase)
            if phase != before and phase in ("joining", "loading", "testing"):
                self.say(f"{phase} ...")

    def _metrics(self, event: dict[str, Any]) -> None:
        numbers = _numbers(event)
        self.values |= numbers
        step = int(numbers.get("step", 0))
        self._bar.update(self._task, completed=step, rest=metrics_line(self.values))
        shown = f"valid loss {numbers['valid_loss']:.4f}" if "valid_loss" in numbers else metrics_line(numbers)
        self.say(f"step {step}/{self.total}  {shown}", only_log=self.live)

    def _test(self, rank: int, event: dict[str, Any]) -> None:
        counts = _numbers(event)
        self.tested[rank] = (int(counts.get("done", 0)), int(counts.get("total", 0)))
        done, total = (sum(pair[part] for pair in self.tested.values()) for part in (0, 1))
        self._bar.update(self._task, completed=done, total=total, rest="answers")
        if time.monotonic() - self._said_test > 10 or done == total:
            self._said_test = time.monotonic()
            self.say(f"tested {done}/{total} answers", only_log=self.live)

    def say(self, text: str, only_log: bool = False) -> None:
        """A line in train.log, and on the screen too unless the live line says it already."""
        # a disk that is full stops the ranks, whose error is then to be shown
        with contextlib.suppress(OSError):
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        if only_log:
            return
        if self.live:
            self._bar.console.print(text, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)


def _numbers(event: dict[str, Any]) -> dict[str, Any]:
    """What of an event can be shown as a number, since a host's agent may be of another make; a loss may be NaN."""
    found = {name: value for name, value in event.items() if isinstance(value, int | float)}
    return {
        name: value
        for name, value in found.items()
        if abs(value) < 1e15 or (name.endswith("loss") and isinstance(value, float))
    }


def metrics_line(values: dict[str, Any]) -> str:
    """Loss, validation, speed, time left, memory: what there is of them."""
    parts = []
    if "loss" in values:
        parts.append(f"loss {values['loss']:.4f}")
    if "valid_loss" in values:
        parts.append(f"valid {values['valid_loss']:.4f} (best {values.get('best_loss', math.nan):.4f})")
    if "tokens_per_second" in values:
        parts.append(f"{values['tokens_per_second']:.0f} tok/s")
    if "seconds_left" in values:
        parts.append(f"ETA {format_seconds(values['seconds_left'])}")
    if "peak_bytes" in values:
        parts.append(format_bytes(values["peak_bytes"]))
    return "  ".join(parts)


def print_result(plan: dict[str, Any], folder: Path, results: dict[str, Any]) -> None:
    """The result and the next useful commands, on stdout."""
    kind, where = plan["job"], format_path(folder)
    print(f"{kind} done: {results['steps']} steps, {results['epochs_begun']} epochs begun, {where}")
    if results.get("best_valid_loss") is not None:
        print(f"  best validation loss {results['best_valid_loss']:.4f} at step {results['best_step']}")
    if "bits_per_byte" in (last := results.get("validation") or {}):
        print(
            f"  held-out text: {last['valid_loss']:.4f} nats per token, {last['bits_per_byte']:.4f} bits per byte; "
            f"repairs {last['repair_loss']:.4f} nats per token; went over the text {results['wraps']:.2f} times"
        )
    if (test := results.get("test")) and kind == "asr":
        print(f"  {acoustic_lines.tested(test)}")
    elif test:
        print(
            f"  test CER {test['cer_before']:.4f} -> {test['cer_after']:.4f} on {test['rows']} rows "
            f"(recognised text {test['cer_asr']:.4f}); "
            f"{test['improved']} better, {test['unchanged']} same, {test['worse']} worse"
        )
    print("next:")
    for command in next_commands(plan, where, bool(test)):
        print(f"  {command}")


def next_commands(plan: dict[str, Any], where: str, tested: bool) -> list[str]:
    """What people usually do next."""
    python = format_path(Path(sys.executable))
    if plan["job"] == "pretrain":
        return [
            f"{python} -m mlx_lm generate --model {where}/model --prompt '...'",
            f"./launch.sh --model {where}/model",
        ]
    if plan["job"] == "asr":
        return [f"less {where}/test_predictions.jsonl", f"thunder asr eval --run {where}"]
    model = format_path(Path(plan["model"]["path"]))
    look = [f"./launch.sh report {where}"] if tested else []
    return [
        *look,
        f"{python} -m mlx_lm generate --model {model} --adapter-path {where}/adapters --prompt '...'",
        f"./launch.sh train -c {where}/config.yaml --seed 1",
    ]


def print_findings(console: Console, findings: Iterable[Mapping[str, str]]) -> None:
    """What checks found, a line each, and under a fault its fix; for `doctor` and `status` alike."""
    for finding in findings:
        console.print(f"[{COLOURS[finding['state']]}]{finding['state']:8}[/] {finding['check']:14}", end="")
        console.print(f"{finding['where']}: {finding['found']}", markup=False, soft_wrap=True)
        if finding["fix"]:
            console.print(f"{'':23}to fix: {finding['fix']}", markup=False, soft_wrap=True)
