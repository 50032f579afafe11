"""`thunder runs`: which runs there are, which of them meet a condition, and what one of them is."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from thunder.cli.console.output import say
from thunder.launcher.runs_folder import run_folder, runs
from thunder.runs.listing import conditions, run_index
from thunder.runs.listing.conditions import RunCondition
from thunder.runs.records.option_names import canonical_name

app = typer.Typer(help="List, filter and show runs.", no_args_is_help=True)
Conditions = Annotated[
    list[str] | None,
    typer.Argument(help="Conditions, such as mode=trajectory 'cer<0.3' state=done name~sample.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]
_SHOWN = ("mode", "script", "seed", "lr")


def list_runs(
    wanted: Conditions = None,
    sort: Annotated[str, typer.Option(help="Column or option; -NAME sorts in descending order.")] = "started",
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Largest number of runs.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the runs that meet all conditions, newest first; options of a run can be asked for by their names."""
    found = run_index.list_runs(
        runs(), _parse_conditions(wanted), sort=sort, limit=limit, only=None if as_json else _SHOWN
    )
    if as_json:  # one line for each run: indented output of thousands of runs takes seconds
        return say("[\n" + ",\n".join(json.dumps(run, ensure_ascii=False) for run in found) + "\n]")
    if not found:
        return say(f"no run in {runs()}" + (" meets these conditions" if wanted else " yet"))
    say("\n".join([_HEAD, *map(_line, found)]))


app.command("list")(list_runs)
app.command("filter")(list_runs)


@app.command()
def table(
    by: Annotated[str, typer.Option(help="Options to group by, with commas: mode,script.")],
    wanted: Conditions = None,
    value: Annotated[str, typer.Option(help="Column to average.")] = "cer",
    as_json: AsJson = False,
) -> None:
    """Group runs by options: how many, mean, standard deviation, least and greatest. Unsealed runs count too."""
    names = [name.strip() for name in by.split(",") if name.strip()]
    groups: dict[tuple[str, ...], list[float]] = {}
    options = [canonical_name(name) for name in (*names, value) if name not in run_index.COLUMNS]
    for run in run_index.list_runs(runs(), _parse_conditions(wanted), only=options):
        number = _run_value(run, value)
        if isinstance(number, int | float):
            groups.setdefault(tuple(str(_run_value(run, name)) for name in names), []).append(number)
    rows = [
        dict(zip(names, key, strict=True))
        | {"runs": len(numbers), "mean": statistics.fmean(numbers)}
        | {"sd": statistics.stdev(numbers) if len(numbers) > 1 else None, "min": min(numbers), "max": max(numbers)}
        for key, numbers in sorted(groups.items())
    ]
    if as_json:
        return say(json.dumps(rows, ensure_ascii=False, indent=4))
    columns = [*names, "runs", "mean", "sd", "min", "max"]
    lines = [columns, *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    say("\n".join("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in lines))


@app.command()
def show(name: Annotated[str, typer.Argument(help="A run: id, folder, or 'latest'.")], as_json: AsJson = False) -> None:
    """Say what a run was asked for, what its logs say it did, and whether it is sealed."""
    from thunder.runs.bundles import bundle
    from thunder.runs.compare import run_facts
    from thunder.runs.records import registry

    folder = run_folder(name)
    facts = run_facts.read_run_facts(folder)
    line = registry.run_line(folder, registry.is_running(folder))
    done = asdict(facts.done) | {"rates": len(facts.done.rates), "losses": len(facts.done.losses)}
    values = asdict(line) | {
        "sealed": bundle.manifest_digest(folder),
        "options": facts.options,
        "identity": facts.identity,
    }
    values |= {"environment": facts.environment, "done": done}
    if as_json:
        return say(json.dumps(values, ensure_ascii=False, indent=4))
    for part, inner in values.items():
        if isinstance(inner, dict):
            say(f"{part}:")
            for key, value in inner.items():
                say(f"  {key:26} {_cell(value)}")
        else:
            say(f"{part:28} {_cell(inner)}")


@app.command("evidence")
def evidence_(name: Annotated[str, typer.Argument(help="A run: id, folder, or 'latest'.")]) -> None:
    """Print everything that a run's numbers stand on as JSON; also evidence.json in it, unless it is sealed."""
    from thunder import digest
    from thunder.evaluation.claims import evidence
    from thunder.runs.bundles import bundle

    folder = run_folder(name)
    content = evidence.collect_run_evidence(folder)
    if content["sealed"] is None and not (folder / bundle.MANIFEST).exists():
        digest.write_json(folder / evidence.EVIDENCE_FILE, content)
    say(json.dumps(content, ensure_ascii=False, indent=4, sort_keys=True))


@app.command()
def rebuild() -> None:
    """Make the index anew from the folders; needed only where a folder was changed by hand."""
    begun = time.perf_counter()
    say(f"{run_index.rebuild_index(runs())} runs in {time.perf_counter() - begun:.1f} s")


def _parse_conditions(wanted: list[str] | None) -> list[RunCondition]:
    return [conditions.parse_condition(text) for text in wanted or []]


def _run_value(run: dict[str, Any], name: str) -> Any:
    return run[name] if name in run else run["options"].get(canonical_name(name))


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


_HEAD = f"{'run':42} {'state':8} {'step':>13} {'loss':>8} {'cer':>7}  sealed        " + "  ".join(_SHOWN)


def _line(run: dict[str, Any]) -> str:
    steps = f"{_cell(run['step'])}/{_cell(run['steps'])}"
    cer = "-" if run["cer"] is None else f"{run['cer']:.4f}"
    options = "  ".join(map(_cell, run["options"].values()))
    sealed = (run["sealed"] or "-")[:12]
    line = f"{run['name']:42} {run['state']:8} {steps:>13} {_cell(run['loss']):>8} {cer:>7}  {sealed:12}  {options}"
    return f"{line}  {run['why']}" if run["why"] else line
