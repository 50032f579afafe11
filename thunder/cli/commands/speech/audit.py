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
LEAST = 4  # utterances; of fewer there are no two batches of two
SCOPES = {
    "eval": "proved for {rows} test utterances, greedy decoding, on this machine; fast weights of the head alone",
    "pipeline": "proved for tables, the first {updates} updates and one validation, done anew by this version",
}


@app.command()
@flags(AuditSettings)
def audit(
    run: Annotated[str, typer.Argument(help="A recognizer's run with test-time training: id, folder, 'latest'.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the audit as JSON.")] = False,
    *,
    given: dict[str, Any],
) -> None:
    """Probe how a run is tested and how its weights came about; writes audit.json into the run.

    Exit code 5: a rule is broken, named with the utterance; 3: it cannot be told. `thunder promote` wants both stages.
    """
    settings, _ = build_settings(AuditSettings, [SettingsLayer("command line", given)])
    folder = run_folder(run)
    _refuse_covered(folder)
    found, rows = examined(folder, settings)
    scopes = {stage: text.format(rows=rows, updates=settings.updates) for stage, text in SCOPES.items()}
    said = records.write_audit(folder, found, scopes)
    if as_json:
        say(json.dumps(said, ensure_ascii=False, indent=4))
    else:
        _tell(found, scopes)
    _refuse(folder, found)


def _refuse_covered(folder: Path) -> None:
    """Raise UsageError where the audit is part of what was sealed: a new one would break the seal."""
    try:
        covered = records.AUDIT_FILE in bundle.read_manifest(folder)["files"]
    except ArtifactError:
        return
    if covered:
        raise UsageError(
            f"{folder.name} is sealed with its {records.AUDIT_FILE}", fix="that one counts; nothing may change"
        )


def examined(folder: Path, settings: AuditSettings) -> tuple[dict[str, list[Condition]], int]:
    """The conditions of each stage that was asked for, and how many test utterances were probed.

    Raises UsageError where nothing in the run adapts, or too few of its test utterances are here.
    """
    from thunder.acoustic.dataset import utterances
    from thunder.acoustic.head import head_file

    loaded = head_file.load_head(folder / bundle_checks.BEST)
    mode = loaded.origin.settings.mode_name
    if loaded.model.adapter is None:
        raise UsageError(f"{folder.name}: no weight of {mode} changes in its test", fix="it needs no audit")
    trained = setting_paths.local_paths(loaded.origin.settings)
    trained = trained.model_copy(update={"features": settings.features or trained.features})
    features = utterances.open_features(trained.features)
    for store in features.stores:
        store.require(loaded.origin.recipe_digest, str(folder))
    found: dict[str, list[Condition]] = {}
    if settings.stage != "eval":
        found["pipeline"] = _of_pipeline(folder, trained, features, loaded.statistics, settings.updates)
    rows = 0
    if settings.stage != "pipeline":
        found["eval"], rows = _of_eval(folder, loaded, features, settings)
    return dict(sorted(found.items())), rows


def _of_eval(
    folder: Path, loaded: LoadedHead, features: FeatureSet, settings: AuditSettings
) -> tuple[list[Condition], int]:
    from thunder.acoustic.audit import eval_stage
    from thunder.acoustic.dataset import utterances
    from thunder.acoustic.inference.recognizer import Recognizer

    reported = _reported(folder)
    examples = [
        one
        for one in utterances.label_utterances(loaded.origin.settings, features)
        if one.labels and one.id in reported
    ]
    tests = utterances.select_by_hash(examples, settings.rows)
    if len(tests) < LEAST:
        fault = f"{folder.name}: {len(tests)} of its test utterances are in these features, {LEAST} are needed"
        raise UsageError(fault, fix="--features FOLDER")
    recognizer, here = Recognizer.from_head(loaded), _same_machine(folder)
    return eval_stage.audit_evaluation(recognizer, features, tests, reported, settings.batch_size, here), len(tests)


def _of_pipeline(
    folder: Path, trained: AcousticSettings, features: FeatureSet, tables: TrainingStatistics, updates: int
) -> list[Condition]:
    from thunder.acoustic.audit import pipeline_stage
    from thunder.acoustic.dataset import frozen_split

    frozen = frozen_split.read_split(
        folder / bundle_checks.SPLIT, [one for store in features.stores for one in store.utterances]
    )
    ids = {part: frozen.ids(part) for part in PARTS}
    results, trace = bundle_checks.json_object(folder / RESULTS, []), run_facts.read_run_facts(folder).done.losses
    return pipeline_stage.audit_pipeline(trained, features, ids, trace, results, tables, updates, _same_machine(folder))


def _reported(folder: Path) -> dict[str, str]:
    """Id -> text in the run's predictions."""
    rows = [row for _, row in scored_rows.json_lines(folder / scored_rows.PREDICTIONS, [])]
    return {str(row.get("feat_id")): str(row.get("asr_text")) for row in rows}


def _same_machine(folder: Path) -> bool:
    """Whether a run was made with these versions and this BLAS on such a chip, in one process.

    Else last digits may differ.
    """
    said, results = (bundle_checks.json_object(folder / name, []) for name in (ENVIRONMENT, RESULTS))
    same = said.get("versions") == environment.package_versions() and said.get("chip") == environment.chip_name()
    return same and results.get("blas") == environment.blas_name() and results.get("ranks", 1) == 1


def _tell(found: dict[str, list[Condition]], scopes: dict[str, str]) -> None:
    for stage, conditions in found.items():
        for one in conditions:
            where = f" (first: {one.first_violation})" if one.first_violation else ""
            say(f"{stage:9} {one.state:13} {one.name}: {one.said}{where}")
        say(f"{stage:9} {records.audit_verdict(conditions)}: {scopes[stage]}")


def _refuse(folder: Path, found: dict[str, list[Condition]]) -> None:
    for word, kind in (("violation", LegalityError), ("inconclusive", GateError)):
        wrong = [
            f"{stage}: {one.name}: {one.said}" for stage, all_ in found.items() for one in all_ if one.state == word
        ]
        if wrong:
            raise kind(f"{folder.name}: {word}: {'; '.join(wrong)}", fix="no claim can stand on it")
