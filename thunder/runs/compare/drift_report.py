"""Decide whether two runs can be compared: how they differ in options and in what the logs report."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from thunder.config import suggest_name
from thunder.errors import UsageError
from thunder.runs.compare.run_facts import RunFacts, share_of_differing_steps
from thunder.runs.records.option_names import canonical_name

DriftClass = Literal["identity", "regime", "treatment", "conflict", "environment", "outcome"]
Comparability = Literal["comparable", "comparable_with_warnings", "not_comparable"]
FACTORS = (
    "identity",
    "regime",
    "treatment",
)  # differences of these classes can explain different results

# An option in none of these sets is regime, so that a new option is never ignored.
_IDENTITY = {
    "snapshot", "test_rows", "holdout", "test_speakers", "test_ids", "valid_speakers", "valid_ids", "drop",
    "chunk_words", "limit", "text_normalisation", "metric_version", "vocab", "script",
}  # fmt: skip
_TREATMENT = {
    "mode", "use_ttt", "use_tar", "reg", "reg_weight", "tar_weight", "conditioning", "control", "codebook", "head",
    "ttt_chunk_size", "ttt_lr", "ttt_cap", "ttt_heads", "ttt_head_dim",
}  # fmt: skip
# options that make the split; they are ignored where both runs record the ids of the split
_SPLITTING = {"holdout", "test_speakers", "test_ids", "valid_speakers", "valid_ids"}
_ENVIRONMENT = {"ranks", "strategy", "cluster", "grad_checkpoint"}
# paths and monitoring options; digests identify the content at these paths
_COSMETIC = {
    "resume", "force", "skip_link_check", "allow_solo", "wait_for_hosts", "stall_after", "steps_per_report",
    "save_every", "probe_rows", "ignore_memory_check", "preset", "data", "train_data", "valid_data", "test_data",
    "features", "split", "model", "adapter_path", "out", "name", "run_name", "text", "text_root", "exclude_rows",
    "schema", "max_wraps", "hypothesis",
}  # fmt: skip
_SAME_RATE = 0.01  # relative tolerance of a logged peak above the configured rate
_FAR_BELOW = 0.5  # a logged peak below this fraction of the configured rate contradicts it


@dataclass(frozen=True)
class Difference:
    """One difference, or a conflict between one run's logs and its own options (kind: conflict)."""

    name: str
    kind: DriftClass
    a: Any
    b: Any
    allowed: bool = False
    note: str = ""

    @property
    def is_factor(self) -> bool:
        """Whether this difference forbids the comparison."""
        return self.kind in FACTORS and not self.allowed

    def __str__(self) -> str:
        values = f"{format_drift(self.a)} vs {format_drift(self.b)}"
        return f"{self.name} ({self.note})" if self.note else f"{self.name} ({values})"


@dataclass(frozen=True)
class Drift:
    """The result of a comparison; `sentence` states it in words."""

    a: str
    b: str
    verdict: Comparability
    findings: tuple[Difference, ...]
    sentence: str

    @property
    def factors(self) -> tuple[Difference, ...]:
        """The differences that forbid the comparison."""
        return tuple(finding for finding in self.findings if finding.is_factor)


def compare_runs(a: RunFacts, b: RunFacts, allow: Collection[str] = ()) -> Drift:
    """Compare two runs; only the factors in `allow` may differ without forbidding the comparison (pure)."""
    allowed = set(map(_known_as, allow))
    found = [*_options(a, b), *_forced(a, b), *_identity(a, b), *_rates(a, b), *_outcome(a, b), *_environment(a, b)]
    found += [*_conflicts(a), *_conflicts(b)]
    findings = tuple(
        Difference(one.name, one.kind, one.a, one.b, one.name.split(",")[0] in allowed, one.note) for one in found
    )
    return Drift(a.name, b.name, *_judged(a, b, findings))


def refuse_unknown_factors(allow: Collection[str], *runs: RunFacts) -> None:
    """Raise UsageError where `allow` names an option that no run has, such as a misspelled one."""
    known = {
        name for facts in runs for part in (facts.options, facts.identity or {}, facts.environment) for name in part
    }
    for name in sorted(set(map(_known_as, allow)) - known):
        raise UsageError(
            f"--allow {name}: neither run has this option.{suggest_name(name, known)}",
            fix="name an option of the runs",
        )


def _known_as(name: str) -> str:
    return canonical_name(name.strip().replace("-", "_"))


def _judged(
    a: RunFacts, b: RunFacts, findings: tuple[Difference, ...]
) -> tuple[Comparability, tuple[Difference, ...], str]:
    pair = f"{a.name} and {b.name}"
    if factors := [finding for finding in findings if finding.is_factor]:
        named = ", ".join(map(str, factors))
        return "not_comparable", findings, f"{pair} differ in {named}: cannot attribute"
    declared = [finding for finding in findings if finding.allowed and finding.kind in FACTORS]
    text = f"{pair} differ in {', '.join(map(str, declared))}, as declared" if declared else f"{pair} do not differ"
    if warnings := [finding for finding in findings if finding not in declared]:
        return "comparable_with_warnings", findings, f"{text}; mind {', '.join(map(str, warnings))}"
    return "comparable", findings, text


def class_of_option(option: str) -> DriftClass | None:
    """Return the class of an option; None where it is cosmetic."""
    if option in _COSMETIC:
        return None
    if option in _IDENTITY:
        return "identity"
    if option in _TREATMENT:
        return "treatment"
    return "environment" if option in _ENVIRONMENT else "regime"


def _options(a: RunFacts, b: RunFacts) -> Iterator[Difference]:
    split_known = all("split" in (facts.identity or {}) for facts in (a, b))
    for name in sorted(a.options.keys() | b.options.keys()):
        kind = class_of_option(name)
        if kind is None or (split_known and name in _SPLITTING):
            continue
        one, other = a.options.get(name), b.options.get(name)
        if name == "patience":
            yield from _patience(a, b)
        elif not _alike(one, other):
            yield Difference(name, kind, one, other)


def _patience(a: RunFacts, b: RunFacts) -> Iterator[Difference]:
    """Compare patience as requested, and as effective where a run was stopped by it."""
    asked = [facts.options.get("patience") for facts in (a, b)]
    worked = [_effective_patience(facts) for facts in (a, b)]
    if asked[0] != asked[1] or worked[0] != worked[1]:
        told = [
            format_drift(one) if one == other else f"{format_drift(one)}, effective {format_drift(other)}"
            for one, other in zip(asked, worked, strict=True)
        ]
        yield Difference("patience", "regime", *worked, note=f"{told[0]} vs {told[1]}")


def _forced(a: RunFacts, b: RunFacts) -> Iterator[Difference]:
    """Report a run that was continued with other options: its configuration does not describe all of it."""
    if a.forced != b.forced:
        told = " vs ".join("; ".join(facts.forced) or "nothing" for facts in (a, b))
        yield Difference("forced", "regime", list(a.forced), list(b.forced), note=f"changed on the way: {told}")


def _effective_patience(facts: RunFacts) -> Any:
    if facts.done.stopped_early and facts.done.waited is not None:
        return facts.done.waited
    return facts.options.get("patience")


def _alike(one: Any, other: Any) -> bool:
    """Return whether two values are equal; 1 equals 1.0, 1 does not equal True."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other


def _identity(a: RunFacts, b: RunFacts) -> Iterator[Difference]:
    """Compare digests of data, split, labels and base; a digest that one run lacks is a difference."""
    if a.identity is None or b.identity is None:
        return
    if not a.identity and not b.identity:
        yield Difference("identity", "environment", None, None, note="neither run records digests of its data")
    for name in sorted(a.identity.keys() | b.identity.keys()):
        one, other = a.identity.get(name), b.identity.get(name)
        if one != other:
            told = [each[:12] if each else "not recorded" for each in (one, other)]
            yield Difference(name, "identity", one, other, note=f"{told[0]} vs {told[1]}")


def _rates(a: RunFacts, b: RunFacts) -> Iterator[Difference]:
    """Compare the logged learning rates with those that the options imply."""
    apart = share_of_differing_steps(a.done.rates, b.done.rates)
    if apart is None:
        return
    shaping = ("lr", "updates", "iters", "warmup", "lr_final", "schedule", "max_epochs", "batch")
    same = all(_alike(a.options.get(name), b.options.get(name)) for name in shaping)
    if same and apart > 0:
        note = f"asked for alike, logged otherwise at {apart:.0%} of the steps"
        yield Difference("lr, logged", "regime", None, None, note=note)
    one, other = a.options.get("lr"), b.options.get("lr")
    if apart == 0 and not _alike(one, other):
        note = f"{format_drift(one)} vs {format_drift(other)} asked for, but the logs show one and the same"
        yield Difference("lr, logged", "conflict", one, other, note=note)


def _outcome(a: RunFacts, b: RunFacts) -> Iterator[Difference]:
    """Compare how far the runs came: reported, but not a reason against the comparison."""
    for name in ("steps", "epochs", "tokens", "wraps"):
        one, other = getattr(a.done, name), getattr(b.done, name)
        if one and other and abs(one - other) > 0.1 * max(one, other):
            yield Difference(f"{name} done", "outcome", one, other)


def _environment(a: RunFacts, b: RunFacts) -> Iterator[Difference]:
    for name in sorted(a.environment.keys() | b.environment.keys()):
        one, other = a.environment.get(name), b.environment.get(name)
        if one != other:
            yield Difference(name, "environment", one, other)


def _conflicts(facts: RunFacts) -> Iterator[Difference]:
    """List where a run's logs contradict its options."""
    done, asked = facts.done, facts.options

    def conflict(name: str, wanted: Any, found: Any, what: str) -> Difference:
        note = f"{facts.name}: {format_drift(wanted)} asked for, {what} {format_drift(found)}"
        return Difference(f"{name}, logged", "conflict", wanted, found, note=note)

    rate, peak = asked.get("lr"), max(done.rates.values(), default=None)
    if isinstance(rate, int | float) and peak is not None and not _could_be(rate, peak, done.rates, asked):
        yield conflict("lr", rate, peak, "the log's highest is")
    patience = asked.get("patience")
    if done.stopped_early and done.waited is not None and patience != done.waited:
        yield conflict("patience", patience, done.waited, "it stopped as by")
    if facts.forced:
        yield Difference("forced, logged", "conflict", None, None, note=f"{facts.name}: {'; '.join(facts.forced)}")
    if done.batch and isinstance(asked.get("updates"), int) and asked.get("batch") != done.batch:
        yield conflict("batch", asked.get("batch"), done.batch, "trained with")
    updates = asked.get("updates")
    if isinstance(updates, int) and done.steps and done.steps < updates and not done.stopped_early:
        yield conflict("updates", updates, done.steps, "it ended after")


def _could_be(rate: float, peak: float, rates: Mapping[int, float], asked: Mapping[str, Any]) -> bool:
    """Return whether a logged highest rate is possible under a schedule with this peak, at some of its steps."""
    if peak > rate * (1 + _SAME_RATE):
        return False
    warmup, updates = asked.get("warmup") or 0, asked.get("updates") or asked.get("iters") or max(rates)
    seen = any(warmup <= step <= warmup + (updates - warmup) / 3 for step in rates)
    return not seen or peak >= rate * _FAR_BELOW


def format_drift(value: Any) -> str:
    """Format a value for a sentence."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
