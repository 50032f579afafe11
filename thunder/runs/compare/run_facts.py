"""Collect what a run was asked to do and what its logs report, as input for comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.runs.bundles import scored_rows
from thunder.runs.bundles.bundle_checks import SPLIT, VOCAB, json_object, run_options
from thunder.runs.records.option_names import with_canonical_names
from thunder.runs.records.registry import PLAN
from thunder.runs.records.run_record import CHANGES, ENVIRONMENT, METRICS, RESULTS

Trace = Mapping[int, float]


@dataclass(frozen=True)
class ObservedTraining:
    """What the logs report about training.

    rates, losses: step -> learning rate, validation loss; the later line wins where a step occurs twice.
    steps, epochs, tokens, wraps: progress; a wrap is one pass over all of the text. batch: rows of an update.
    stopped_early: whether patience ended the run, as far as the logs tell.
    waited: validations after the best one, None where the logs do not tell.
    """

    rates: Trace = field(default_factory=dict)
    losses: Trace = field(default_factory=dict)
    steps: int | None = None
    epochs: int | None = None
    tokens: int | None = None
    wraps: float | None = None
    batch: int | None = None
    stopped_early: bool = False
    waited: int | None = None


@dataclass(frozen=True)
class RunFacts:
    """A run as comparisons see it. options: as requested, with defaults, each under its canonical name.

    identity: digests of its training and test data; empty where the run records none, None where there is no run yet.
    environment: versions, machine, commit. forced: changes that `--force` permitted on the way.
    """

    name: str
    options: Mapping[str, Any]
    identity: Mapping[str, str] | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    done: ObservedTraining = ObservedTraining()
    forced: tuple[str, ...] = ()


def read_run_facts(folder: Path) -> RunFacts:
    """Read the facts of a run's folder; a missing file leaves its facts out.

    Raises ConfigError where config.yaml cannot be read.
    """
    plan, recorded = _content(folder / PLAN), _content(folder / ENVIRONMENT)
    options = with_canonical_names(run_options(folder))
    done = _observed_training(_content(folder / RESULTS), metric_entries(folder / METRICS), options)
    forced = [str(text) for entry in metric_entries(folder / CHANGES) for text in entry.get("changes") or ()]
    identity, environment = _identity(folder, recorded), _environment(recorded)
    return RunFacts(folder.name, _per_update(options, plan), identity, environment, done, tuple(forced))


def _content(path: Path) -> dict[str, Any]:
    return json_object(path, []) if path.is_file() else {}


def metric_entries(path: Path) -> list[dict[str, Any]]:
    """Return the readable lines of a metrics.jsonl; none where there is no such file."""
    return [entry for _, entry in scored_rows.json_lines(path, [])] if path.is_file() else []


def _per_update(options: dict[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """Express batch and lengths in optimizer updates, independent of ranks and gradient accumulation."""
    batch, length = plan.get("batch"), plan.get("length")
    if not isinstance(batch, dict) or not isinstance(length, dict) or "rows_per_update" not in batch:
        return options
    pieces = int(options.get("grad_accumulation_steps") or 1)
    converted = {key: value for key, value in options.items() if key not in ("grad_accumulation_steps", "iters")}
    converted |= {"batch": batch["rows_per_update"], "updates": length.get("updates")}
    if isinstance(every := converted.pop("steps_per_eval", None), int):
        converted["updates_per_eval"] = -(-every // pieces)
    return converted


def _identity(folder: Path, recorded: Mapping[str, Any]) -> dict[str, str]:
    digests: dict[str, str] = {}
    data, base = recorded.get("data_sha256"), recorded.get("base")
    if isinstance(data, dict):
        digests |= {f"data.{part}": str(sha256) for part, sha256 in data.items()}
    elif data:
        digests["data"] = str(data)
    if isinstance(base, dict) and base.get("sha256"):
        digests["base"] = str(base["sha256"])
    for name, path in (("split", folder / SPLIT), ("vocab", folder / VOCAB)):
        if path.is_file():
            content = json_object(path, [])
            # the digest of a split covers its ids, not how they were chosen
            digests[name] = digest.sha256_json(content.get("ids", content))
    return digests


def _environment(recorded: Mapping[str, Any]) -> dict[str, Any]:
    versions = recorded.get("versions")
    facts = {f"version of {name}": value for name, value in versions.items()} if isinstance(versions, dict) else {}
    facts |= {key: recorded[key] for key in ("chip", "system", "dirty") if key in recorded}
    return facts | ({"commit": str(recorded["commit"])[:12]} if "commit" in recorded else {})


def _observed_training(
    results: Mapping[str, Any], entries: list[dict[str, Any]], options: Mapping[str, Any]
) -> ObservedTraining:
    rates, losses = learning_rate_trace(entries, "learning_rate"), learning_rate_trace(entries, "valid_loss")
    steps = whole_number(results.get("steps"))
    stop, best = whole_number(results.get("stop_epoch")), whole_number(results.get("best_epoch"))
    stopped = bool(results.get("stopped_early"))
    waited = None
    if losses:
        lowest = min(losses, key=lambda step: (losses[step], step))
        waited = sum(step > lowest for step in losses)
    elif stop is not None and best is not None:  # other programs validate once an epoch and log only the epochs
        waited = stop - best
        most = options.get("max_epochs")
        stopped = stopped or not (isinstance(most, int) and stop + 1 >= most)
    tokens = [entry["tokens"] for entry in entries if whole_number(entry.get("tokens")) is not None]
    batch = whole_number(results.get("global_batch_size"))
    return ObservedTraining(
        rates,
        losses,
        steps,
        whole_number(results.get("epochs")) or whole_number(results.get("epochs_begun")),
        tokens[-1] if tokens else whole_number(results.get("tokens")),
        float(wraps) if isinstance(wraps := results.get("wraps"), int | float) else None,
        batch * int(options.get("grad_accumulation_steps") or 1) if batch else None,
        stopped,
        waited,
    )


def learning_rate_trace(entries: list[dict[str, Any]], key: str) -> dict[int, float]:
    """Return step -> value of one key of metrics.jsonl, in the order of the steps."""
    trace = {}
    for entry in entries:
        step, value = whole_number(entry.get("step")), entry.get(key)
        if step is not None and isinstance(value, int | float) and not isinstance(value, bool):
            trace[step] = float(value)
    return dict(sorted(trace.items()))


def whole_number(value: Any) -> int | None:
    """Return a value where it is an integer, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def share_of_differing_steps(trace_a: Trace, trace_b: Trace, tolerance: float = 0.05) -> float | None:
    """Return the share of common steps at which two traces differ by more than `tolerance`, relative to the larger
    value.

    None where they have no step in common.
    """
    common = trace_a.keys() & trace_b.keys()
    if not common:
        return None
    apart = sum(
        abs(trace_a[step] - trace_b[step]) > tolerance * max(abs(trace_a[step]), abs(trace_b[step])) for step in common
    )
    return apart / len(common)
