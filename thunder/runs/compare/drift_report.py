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
    allowed = set(map(_option_name, allow))
    differences = [
        *_options(a, b),
        *_forced(a, b),
        *_identity(a, b),
        *_rates(a, b),
        *_outcome(a, b),
        *_environment(a, b),
    ]
    differences += [*_conflicts(a), *_conflicts(b)]
    findings = tuple(
        Difference(
            difference.name,
            difference.kind,
            difference.a,
            difference.b,
            difference.name.split(",")[0] in allowed,
            difference.note,
        )
        for difference in differences
    )
    return Drift(a.name, b.name, *_comparability(a, b, findings))


def refuse_unknown_factors(allow: Collection[str], *runs: RunFacts) -> None:
    """Raise UsageError where `allow` names an option that no run has, such as a misspelled one."""
    known = {
        name for facts in runs for part in (facts.options, facts.identity or {}, facts.environment) for name in part
    }
    for name in sorted(set(map(_option_name, allow)) - known):
        raise UsageError(
            f"--allow {name}: neither run has this option.{suggest_name(name, known)}",
            fix="name an option of the runs",
        )


def _option_name(name: str) -> str:
    return canonical_name(name.strip().replace("-", "_"))


def _comparability(
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
        value_a, value_b = a.options.get(name), b.options.get(name)
        if name == "patience":
            yield from _patience(a, b)
        elif not _same_value(value_a, value_b):
            yield Difference(name, kind, value_a, value_b)


def _patience(a: RunFacts, b: RunFacts) -> Iterator[Difference]:
    """Compare patience as requested, and as effective where a run was stopped by it."""
    configured = [facts.options.get("patience") for facts in (a, b)]
    effective = [_effective_patience(facts) for facts in (a, b)]
    if configured[0] != configured[1] or effective[0] != effective[1]:
        texts = [
            format_drift(configured_value)
            if configured_value == effective_value
            else f"{format_drift(configured_value)}, effective {format_drift(effective_value)}"
            for configured_value, effective_value in zip(configured, effective, strict=True)
        ]
        yield Difference("patience", "regime", *effective, note=f"{texts[0]} vs {texts[1]}")


def _forced(a: RunFacts, b: RunFacts) -> Iterator[Difference]:
    """Report a run that was continued with other options: its configuration does not describe all of it."""
    if a.forced != b.forced:
        changes = " vs ".join("; ".join(facts.forced) or "nothing" for facts in (a, b))
        yield Difference("forced", "regime", list(a.forced), list(b.forced), note=f"changed on the way: {changes}")


def _effective_patience(facts: RunFacts) -> Any:
    if facts.done.stopped_early and facts.done.waited is not None:
        return facts.done.waited
    return facts.options.get("patience")


def _same_value(value_a: Any, value_b: Any) -> bool:
    """Return whether two values are equal; 1 equals 1.0, 1 does not equal True."""
    if isinstance(value_a, bool) or isinstance(value_b, bool):
        return value_a is value_b
    return value_a == value_b


def _identity(a: RunFacts, b: RunFacts) -> Iterator[Difference]:
    """Compare digests of data, split, labels and base; a digest that one run lacks is a difference."""
    if a.identity is None or b.identity is None:
        return
    if not a.identity and not b.identity:
        yield Difference("identity", "environment", None, None, note="neither run records digests of its data")
    for name in sorted(a.identity.keys() | b.identity.keys()):
        digest_a, digest_b = a.identity.get(name), b.identity.get(name)
        if digest_a != digest_b:
            texts = [each[:12] if each else "not recorded" for each in (digest_a, digest_b)]
            yield Difference(name, "identity", digest_a, digest_b, note=f"{texts[0]} vs {texts[1]}")


def _rates(a: RunFacts, b: RunFacts) -> Iterator[Difference]:
    """Compare the logged learning rates with those that the options imply."""
    apart = share_of_differing_steps(a.done.rates, b.done.rates)
    if apart is None:
        return
    shaping = ("lr", "updates", "iters", "warmup", "lr_final", "schedule", "max_epochs", "batch")
    same = all(_same_value(a.options.get(name), b.options.get(name)) for name in shaping)
    if same and apart > 0:
        note = f"asked for alike, logged otherwise at {apart:.0%} of the steps"
        yield Difference("lr, logged", "regime", None, None, note=note)
    rate_a, rate_b = a.options.get("lr"), b.options.get("lr")
    if apart == 0 and not _same_value(rate_a, rate_b):
        note = f"{format_drift(rate_a)} vs {format_drift(rate_b)} asked for, but the logs show one and the same"
        yield Difference("lr, logged", "conflict", rate_a, rate_b, note=note)


def _outcome(a: RunFacts, b: RunFacts) -> Iterator[Difference]:
    """Compare how far the runs came: reported, but not a reason against the comparison."""
    for name in ("steps", "epochs", "tokens", "wraps"):
        amount_a, amount_b = getattr(a.done, name), getattr(b.done, name)
        if amount_a and amount_b and abs(amount_a - amount_b) > 0.1 * max(amount_a, amount_b):
            yield Difference(f"{name} done", "outcome", amount_a, amount_b)


def _environment(a: RunFacts, b: RunFacts) -> Iterator[Difference]:
    for name in sorted(a.environment.keys() | b.environment.keys()):
        value_a, value_b = a.environment.get(name), b.environment.get(name)
        if value_a != value_b:
            yield Difference(name, "environment", value_a, value_b)


def _conflicts(facts: RunFacts) -> Iterator[Difference]:
    """List where a run's logs contradict its options."""
    done, options = facts.done, facts.options

    def conflict(name: str, configured: Any, observed: Any, description: str) -> Difference:
        note = f"{facts.name}: {format_drift(configured)} asked for, {description} {format_drift(observed)}"
        return Difference(f"{name}, logged", "conflict", configured, observed, note=note)

    rate, peak = options.get("lr"), max(done.rates.values(), default=None)
    if isinstance(rate, int | float) and peak is not None and not _rate_matches(rate, peak, done.rates, options):
        yield conflict("lr", rate, peak, "the log's highest is")
    patience = options.get("patience")
    if done.stopped_early and done.waited is not None and patience != done.waited:
        yield conflict("patience", patience, done.waited, "it stopped as by")
    if facts.forced:
        yield Difference("forced, logged", "conflict", None, None, note=f"{facts.name}: {'; '.join(facts.forced)}")
    if done.batch and isinstance(options.get("updates"), int) and options.get("batch") != done.batch:
        yield conflict("batch", options.get("batch"), done.batch, "trained with")
    updates = options.get("updates")
    if isinstance(updates, int) and done.steps and done.steps < updates and not done.stopped_early:
        yield conflict("updates", updates, done.steps, "it ended after")


def _rate_matches(rate: float, peak: float, rates: Mapping[int, float], options: Mapping[str, Any]) -> bool:
    """Return whether a logged highest rate is possible under a schedule with this peak, at some of its steps."""
    if peak > rate * (1 + _SAME_RATE):
        return False
    warmup, updates = options.get("warmup") or 0, options.get("updates") or options.get("iters") or max(rates)
    logged_after_warmup = any(warmup <= step <= warmup + (updates - warmup) / 3 for step in rates)
    return not logged_after_warmup or peak >= rate * _FAR_BELOW


def format_drift(value: Any) -> str:
    """Format a value for a sentence."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
