"""`thunder audit`: check that a run with test-time training follows the evaluation rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thunder.acoustic.audit.audit_settings import AuditSettings
from thunder.cli.console.output import say
from thunder.cli.parsing.flags import flags
from thunder.config import SettingsLayer, build_settings
from thunder.corpora.splits.split_by_reference import PARTS
from thunder.errors import ArtifactError, GateError, LegalityError, UsageError
from thunder.launcher.options import setting_paths
from thunder.launcher.runs_folder import run_folder
from thunder.runs.bundles import audit_record as records
from thunder.runs.bundles import bundle, bundle_checks, scored_rows
from thunder.runs.bundles.audit_record import Condition
from thunder.runs.compare import run_facts
from thunder.runs.records import environment
from thunder.runs.records.run_record import ENVIRONMENT, RESULTS

if TYPE_CHECKING:
    from thunder.acoustic.acoustic_settings import AcousticSettings
    from thunder.acoustic.dataset.utterances import FeatureSet
    from thunder.acoustic.head.head_file import LoadedHead
    from thunder.acoustic.trajectory.training_statistics import TrainingStatistics

app = typer.Typer(add_completion=False)
MIN_UTTERANCES = 4  # two batches of two
SCOPES = {
    "eval": "checked for {rows} test utterances, greedy decoding, on this machine; only the head's fast weights",
    "pipeline": "checked for statistics, the first {updates} updates and one validation, repeated by this version",
}


@app.command()
@flags(AuditSettings)
def audit(
    run: Annotated[str, typer.Argument(help="A recognizer's run with test-time training: id, folder, 'latest'.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the audit as JSON.")] = False,
    *,
    given: dict[str, Any],
) -> None:
    """Audit the test and the training of a run; write audit.json into the run.

    Exit code 5: a rule is broken; the message names the utterance. 3: inconclusive. `thunder
    promote` needs both stages.
    """
    settings, _ = build_settings(AuditSettings, [SettingsLayer("command line", given)])
    folder = run_folder(run)
    _check_not_sealed(folder)
    conditions, rows = audit_run(folder, settings)
    scopes = {stage: text.format(rows=rows, updates=settings.updates) for stage, text in SCOPES.items()}
    record = records.write_audit(folder, conditions, scopes)
    if as_json:
        say(json.dumps(record, ensure_ascii=False, indent=4))
    else:
        _print_conditions(conditions, scopes)
    _raise_unless_ok(folder, conditions)


def _check_not_sealed(folder: Path) -> None:
    """Raise UsageError if the run's bundle is sealed with its audit: a new audit would break the seal."""
    try:
        is_sealed = records.AUDIT_FILE in bundle.read_manifest(folder)["files"]
    except ArtifactError:
        return
    if is_sealed:
        raise UsageError(
            f"{folder.name} is sealed with its {records.AUDIT_FILE}", fix="use that audit; a sealed run cannot change"
        )


def audit_run(folder: Path, settings: AuditSettings) -> tuple[dict[str, list[Condition]], int]:
    """Conditions of each requested stage, by stage, and the number of test utterances that were probed.

    Raises UsageError if the run has no test-time training, or too few of its test utterances are in the features.
    """
    from thunder.acoustic.dataset import utterances
    from thunder.acoustic.head import head_file

    loaded = head_file.load_head(folder / bundle_checks.BEST)
    mode = loaded.origin.settings.mode_name
    if loaded.model.adapter is None:
        raise UsageError(f"{folder.name}: mode {mode} has no test-time training", fix="this run needs no audit")
    trained = setting_paths.local_paths(loaded.origin.settings)
    trained = trained.model_copy(update={"features": settings.features or trained.features})
    features = utterances.open_features(trained.features, trained.texts)
    for store in features.stores:
        store.require(loaded.origin.recipe_digest, str(folder))
    conditions: dict[str, list[Condition]] = {}
    if settings.stage != "eval":
        conditions["pipeline"] = _pipeline_conditions(folder, trained, features, loaded.statistics, settings.updates)
    rows = 0
    if settings.stage != "pipeline":
        conditions["eval"], rows = _eval_conditions(folder, loaded, features, settings)
    return dict(sorted(conditions.items())), rows


def _eval_conditions(
    folder: Path, loaded: LoadedHead, features: FeatureSet, settings: AuditSettings
) -> tuple[list[Condition], int]:
    from thunder.acoustic.audit import eval_stage
    from thunder.acoustic.dataset import utterances
    from thunder.acoustic.inference.recognizer import Recognizer

    reported = _reported(folder)
    examples = [
        example
        for example in utterances.label_utterances(loaded.origin.settings, features)
        if example.labels and example.id in reported
    ]
    tests = utterances.select_by_hash(examples, settings.rows)
    if len(tests) < MIN_UTTERANCES:
        fault = (
            f"{folder.name}: these features hold {len(tests)} of its test utterances, expected {MIN_UTTERANCES} or more"
        )
        raise UsageError(fault, fix="give the run's features: --features FOLDER")
    recognizer, same_machine = Recognizer.from_head(loaded), _same_machine(folder)
    conditions = eval_stage.audit_evaluation(recognizer, features, tests, reported, settings.batch_size, same_machine)
    return conditions, len(tests)


def _pipeline_conditions(
    folder: Path, trained: AcousticSettings, features: FeatureSet, statistics: TrainingStatistics, updates: int
) -> list[Condition]:
    from thunder.acoustic.audit import pipeline_stage
    from thunder.acoustic.dataset import frozen_split

    frozen = frozen_split.read_split(
        folder / bundle_checks.SPLIT, [utterance for store in features.stores for utterance in store.utterances]
    )
    ids = {part: frozen.ids(part) for part in PARTS}
    results, trace = bundle_checks.json_object(folder / RESULTS, []), run_facts.read_run_facts(folder).done.losses
    return pipeline_stage.audit_pipeline(
        trained, features, ids, trace, results, statistics, updates, _same_machine(folder)
    )


def _reported(folder: Path) -> dict[str, str]:
    """Utterance id -> recognized text in the run's predictions."""
    rows = [row for _, row in scored_rows.json_lines(folder / scored_rows.PREDICTIONS, [])]
    return {str(row.get("feat_id")): str(row.get("asr_text")) for row in rows}


def _same_machine(folder: Path) -> bool:
    """True if the run used these package versions, this BLAS and this chip, in one process.

    Otherwise the last digits may differ.
    """
    recorded, results = (bundle_checks.json_object(folder / name, []) for name in (ENVIRONMENT, RESULTS))
    same = (
        recorded.get("versions") == environment.package_versions() and recorded.get("chip") == environment.chip_name()
    )
    return same and results.get("blas") == environment.blas_name() and results.get("ranks", 1) == 1


def _print_conditions(conditions_by_stage: dict[str, list[Condition]], scopes: dict[str, str]) -> None:
    for stage, conditions in conditions_by_stage.items():
        for condition in conditions:
            where = f" (first: {condition.first_violation})" if condition.first_violation else ""
            say(f"{stage:9} {condition.state:13} {condition.name}: {condition.said}{where}")
        say(f"{stage:9} {records.audit_verdict(conditions)}: {scopes[stage]}")


def _raise_unless_ok(folder: Path, conditions_by_stage: dict[str, list[Condition]]) -> None:
    for word, kind in (("violation", LegalityError), ("inconclusive", GateError)):
        failed = [
            f"{stage}: {condition.name}: {condition.said}"
            for stage, conditions in conditions_by_stage.items()
            for condition in conditions
            if condition.state == word
        ]
        if failed:
            raise kind(f"{folder.name}: {word}: {'; '.join(failed)}", fix="do not publish results of this run")
