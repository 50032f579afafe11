"""Check whether a result can be published: judge every criterion of a claim from the files of its runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from thunder.config import Settings, option
from thunder.errors import ThunderError
from thunder.evaluation.claims import memorization, repair_evidence, training_table
from thunder.runs.bundles import audit_record, bundle
from thunder.runs.bundles.bundle_checks import json_object, run_options
from thunder.runs.compare import drift_report, run_facts
from thunder.runs.hypotheses import frozen_hypothesis
from thunder.runs.matrix import matrix_spec
from thunder.runs.matrix.matrix_status import cell_cer
from thunder.runs.records import spec_file
from thunder.runs.records.option_names import canonical_name
from thunder.runs.records.run_record import CHANGES, ENVIRONMENT, LOG, METRICS, RESULTS
from thunder.runs.tables import table_files
from thunder.statistics.welch import welch_p_value

CLAIM_SCHEMA = "thunder.claim/1"
REQUIRED_SEEDS = 3
LARGEST_P = 0.01  # largest p value of Welch's test; usual for training runs
ADAPTING_PARTS = {"ttt"}  # parts of a mode that change weights during the test
SOUND_VERDICTS = ("healthy", "lag_only", "overfit")
FindRun = Callable[[str], Path]


class PublicationClaim(Settings):
    """A claim and its evidence. Runs are named by id or folder; files are relative to the folder of the claim."""

    id: str = option(..., "Name.", min_length=1)
    schema_: Literal["thunder.claim/1"] = option(CLAIM_SCHEMA, "Format.", alias="schema")
    kind: Literal["comparison", "repair"] = option(..., "Comparison of two conditions, or repair of recognized text.")
    text: str = option(..., "The statement.", min_length=1)
    control: list[str] = option([], "Runs of the control condition (comparison).")
    runs: list[str] = option([], "Runs of the condition that the claim is about.")
    factor: str | None = option(None, "Option in which the two conditions differ (comparison).")
    lower: bool = option(True, "Whether the claim is that the error rate of `runs` is lower (comparison).")
    hypothesis: str | None = option(None, "File of the frozen hypothesis.")
    tables: str | None = option(None, "Spec of the tables that show it.")
    evaluation: str | None = option(None, "Folder that `thunder eval` or the bridge wrote (repair).")


@dataclass(frozen=True)
class PromotionCriterion:
    """One condition of promotion, whether it holds, and what was found."""

    name: str
    holds: bool
    said: str

    def __str__(self) -> str:
        return self.said if self.said.startswith(f"{self.name}=") else f"{self.name}: {self.said}"


@dataclass(frozen=True)
class PromotionDecision:
    """The result of all criteria; `decision` names the first one that does not hold."""

    claim: str
    decision: str
    criteria: tuple[PromotionCriterion, ...]
    runs: dict[str, str | None]
    datasets: dict[str, str]
    metrics: dict[str, Any]
    commands: tuple[str, ...] = field(default=())

    @property
    def promoted(self) -> bool:
        """Whether every criterion holds."""
        return all(one.holds for one in self.criteria)


def judge_claim(path: Path, find: FindRun) -> PromotionDecision:
    """Read a claim, and judge every criterion. find: name of a run -> folder.

    Raises ConfigError where the file is not a claim, UsageError where it names a run that does not exist.
    """
    claim = spec_file.read_spec(PublicationClaim, path)
    treated, control = [find(name) for name in claim.runs], [find(name) for name in claim.control]
    everyone = [*treated, *control]
    criteria = [
        _sealed_criterion(everyone),
        _memcheck_criterion(everyone),
        _untainted_criterion(everyone),
        _audit_criterion(everyone),
    ]
    if claim.kind == "comparison":
        criteria += [
            _comparable_criterion(claim, treated, control),
            _seeds_criterion(treated, control),
            _difference_criterion(claim, treated, control),
        ]
        metrics: dict[str, Any] = {"control": list(map(cell_cer, control)), "runs": list(map(cell_cer, treated))}
    else:
        found, metrics = repair_evidence.judge_repair(path.parent / claim.evaluation if claim.evaluation else None)
        criteria = [*(PromotionCriterion(*one) for one in found), *criteria]
    criteria += [
        _hypothesis_criterion(claim, path.parent, treated, control),
        _tables_criterion(claim, path.parent, find),
    ]
    failed = next((one for one in criteria if not one.holds), None)
    return PromotionDecision(
        claim.id,
        f"not promoted: {failed}" if failed else "promoted",
        tuple(criteria),
        {folder.name: bundle.manifest_digest(folder) for folder in everyone},
        _datasets(everyone),
        metrics,
        tuple(_command(folder) for folder in everyone),
    )


def _criterion(name: str, faults: Sequence[str], fine: str) -> PromotionCriterion:
    return PromotionCriterion(name, not faults, "; ".join(faults[:3]) if faults else fine)


def _sealed_criterion(folders: Sequence[Path]) -> PromotionCriterion:
    faults = [] if folders else ["no run is named"]
    for folder in folders:
        try:
            verdict = bundle.inspect_bundle(folder)
        except ThunderError as error:
            faults.append(error.message)
            continue
        faults += [f"{folder.name}: {fault}" for fault in verdict.faults]
        faults += [] if verdict.sealed else [f"{folder.name} is not sealed"]
    return _criterion("sealed", faults, f"{len(folders)} runs are sealed and complete")


def _memcheck_criterion(folders: Sequence[Path]) -> PromotionCriterion:
    """Judge each run again from its logs; a stored verdict does not count."""
    faults, verdicts = [], []
    for folder in folders:
        try:
            judged = memorization.judge_training(training_table.read_training_table(folder))
        except ThunderError as error:
            faults.append(f"{folder.name}: {error.message}")
            continue
        missing = f", not logged: {', '.join(judged.missing)}" if judged.missing else ""
        verdicts.append(f"{folder.name} {judged.verdict}")
        faults += [] if judged.verdict in SOUND_VERDICTS else [f"{folder.name}: {judged.verdict}{missing}"]
    return _criterion("memcheck", faults, ", ".join(verdicts))


def _untainted_criterion(folders: Sequence[Path]) -> PromotionCriterion:
    """No run was continued by --force, and none is marked as tainted by its test data."""
    faults = []
    for folder in folders:
        faults += [f"{folder.name}: was continued by --force ({CHANGES})"] if (folder / CHANGES).exists() else []
        statements = [json_object(folder / name, []) for name in (RESULTS, ENVIRONMENT) if (folder / name).is_file()]
        faults += [f"{folder.name}: is marked as tainted"] if any(each.get("tainted") for each in statements) else []
    return _criterion("untainted", faults, "no run was forced, and none is tainted")


def _audit_criterion(folders: Sequence[Path]) -> PromotionCriterion:
    """Every run whose weights change during the test has audit records of both stages, bound to its files."""
    adapting = [folder for folder in folders if matrix_spec.split_parts(run_options(folder)) & ADAPTING_PARTS]
    if not adapting:
        return PromotionCriterion("audit", True, "no weight changes during the test")
    faults = [f"{folder.name}: {why}" for folder in adapting for why in audit_record.audit_refusals(folder)]
    return _criterion("audit", faults, f"both stages pass for {', '.join(folder.name for folder in adapting)}")


def _comparable_criterion(
    claim: PublicationClaim, treated: Sequence[Path], control: Sequence[Path]
) -> PromotionCriterion:
    """Compare every run of one condition with every run of the other; seeds and the declared factor may differ."""
    if not control or not treated or not claim.factor:
        return PromotionCriterion("comparable", False, "a comparison needs runs of both conditions, and the factor")
    modal = {"mode", "use_ttt", "reg", "reg_weight"}
    factor = canonical_name(claim.factor.replace("-", "_"))
    allow = {"seed"} | (modal if factor in modal or factor.startswith("mode") else {factor})
    faults = []
    known = {folder: run_facts.read_run_facts(folder) for folder in (*treated, *control)}
    for one in control:
        for other in treated:
            there = {*known[one].options, *known[other].options}
            found = drift_report.compare_runs(known[one], known[other], allow & there)
            faults += [found.sentence] if found.verdict == "not_comparable" else []
    differ = matrix_spec.differing_options(known[control[0]].options, known[treated[0]].options)
    parts = [name for name in differ if name.startswith("mode.")]
    if factor in modal and len(parts) > 1:
        faults.append(f"the modes differ in {len(parts)} parts: {', '.join(parts)}")
    return _criterion("comparable", faults, f"the runs differ in {claim.factor}, as declared")


def _seeds_criterion(treated: Sequence[Path], control: Sequence[Path]) -> PromotionCriterion:
    counts = [len({run_options(folder).get("seed") for folder in folders}) for folders in (treated, control)]
    return PromotionCriterion(
        "seeds",
        min(counts) >= REQUIRED_SEEDS,
        f"{counts[0]} and {counts[1]} different seeds; at least {REQUIRED_SEEDS} are needed",
    )


def _difference_criterion(
    claim: PublicationClaim, treated: Sequence[Path], control: Sequence[Path]
) -> PromotionCriterion:
    """The difference has the claimed sign, and chance alone would seldom make it as large."""
    values = [[value for folder in each if (value := cell_cer(folder)) is not None] for each in (treated, control)]
    if not all(values):
        return PromotionCriterion("difference", False, "a run has no error rate")
    change = statistics.fmean(values[0]) - statistics.fmean(values[1])
    p = welch_p_value(*values)
    text = f"CER changes by {change:+.4f}, Welch p {'unknown' if p is None else f'{p:.3g}'}"
    return PromotionCriterion(
        "difference", p is not None and p < LARGEST_P and (change < 0) == claim.lower and change != 0, text
    )


def _hypothesis_criterion(
    claim: PublicationClaim, here: Path, treated: Sequence[Path], control: Sequence[Path]
) -> PromotionCriterion:
    if not claim.hypothesis:
        return PromotionCriterion("hypothesis", False, "none is named")
    path = here / claim.hypothesis
    try:
        hypothesis = frozen_hypothesis.read_hypothesis(path)
        base = control[0] if control else _run_beside(path, hypothesis.control_run)
        if base is None or not treated:
            return PromotionCriterion("hypothesis", False, "a run or a control run is missing")
        judgment = frozen_hypothesis.evaluate_hypothesis(path, treated[0], base)
    except ThunderError as error:
        return PromotionCriterion("hypothesis", False, error.message)
    return PromotionCriterion("hypothesis", not judgment.void, judgment.verdict)


def _run_beside(path: Path, name: str | None) -> Path | None:
    return path.parent / name if name and (path.parent / name).is_dir() else None


def _tables_criterion(claim: PublicationClaim, here: Path, find: FindRun) -> PromotionCriterion:
    if not claim.tables:
        return PromotionCriterion("tables", False, "none are named")
    try:
        count = table_files.check_table_files(here / claim.tables, find)
    except ThunderError as error:
        return PromotionCriterion("tables", False, " ".join(error.message.split()))
    return PromotionCriterion("tables", True, f"{count} cells match their runs")


def _datasets(folders: Sequence[Path]) -> dict[str, str]:
    digests: dict[str, str] = {}
    for folder in folders:
        digests |= run_facts.read_run_facts(folder).identity or {}
    return dict(sorted(digests.items()))


def _command(folder: Path) -> str:
    """The command that repeats a run."""
    launched = json_object(folder / "launcher.json", []) if (folder / "launcher.json").is_file() else {}
    argv = launched.get("argv")
    if isinstance(argv, list):
        return " ".join(map(str, argv))
    return f"./launch.sh -c {folder.name}/config.yaml  # logs: {LOG}, {METRICS}"
