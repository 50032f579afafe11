"""`thunder asr eval`: error rates of a trained head on features with reference texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thunder.acoustic.acoustic_settings import AcousticEvalSettings
from thunder.api.recognition import recognizer_checkpoint
from thunder.cli.console.output import say
from thunder.cli.parsing.flags import AsJson, flags
from thunder.config import SettingsLayer, build_settings
from thunder.errors import CorpusError
from thunder.launcher.options import setting_paths

if TYPE_CHECKING:
    from thunder.acoustic.acoustic_settings import AcousticSettings
    from thunder.acoustic.dataset.utterances import AcousticExample, FeatureSet
    from thunder.acoustic.inference.recognizer import Recognizer

RESAMPLES, LEVEL = 1000, 0.95


@flags(AcousticEvalSettings)
def evaluate(as_json: AsJson = False, *, given: dict[str, Any]) -> None:
    """Measure error rates of a run's best checkpoint on its test part, or on other features of the same recipe."""
    settings, _ = build_settings(AcousticEvalSettings, [SettingsLayer("command line", given)])
    if settings.out:
        setting_paths.check_writable(Path(settings.out).expanduser())
    results = measure_error_rates(settings)
    if as_json:
        say(json.dumps(results, ensure_ascii=False))
        return
    low, high = results["cer_interval"] or (float("nan"),) * 2
    say(f"{results['checkpoint']}: {results['mode']}, {results['rows']} utterances ({results['part']})")
    say(f"CER {results['cer']:.4f} ({low:.4f} to {high:.4f}, {LEVEL:.0%} over utterances), WER {results['wer']:.4f}")
    if texts := results.get("texts"):
        say(f"{texts['joined']} texts joined by id; {texts['texts_without_recording']} have no features here, "
            f"{texts['recordings_without_text']} utterances are not in the table")  # fmt: skip
    say(f"{results['exact']} exact, {results['empty']} empty, mean confidence {results['confidence_mean']:.2f}")
    metrics = results["by_partition"]
    for name, counts in (
        *metrics["partitions"].items(),
        *((f"{name} characters", counts) for name, counts in metrics["lengths"].items()),
    ):
        rate = "-" if counts["cer"] is None or not counts["rows"] else f"{counts['cer']:.4f}"
        say(f"  {name}: {counts['rows']} utterances, CER {rate}")


def measure_error_rates(settings: AcousticEvalSettings) -> dict[str, Any]:
    """Return error rates of the checkpoint as JSON values; with `out`, also write rows and metrics to that folder.

    Raises ArtifactError if the features have another recipe than the checkpoint, and CorpusError if no utterance of
    the part has a text.
    """
    from thunder.acoustic import labels
    from thunder.acoustic.dataset import utterances
    from thunder.acoustic.decoding.decoder import build_decoder
    from thunder.acoustic.features.recipe import Recipe
    from thunder.acoustic.head import head_file
    from thunder.acoustic.inference import result_files
    from thunder.acoustic.inference.recognizer import Recognizer

    path = recognizer_checkpoint(settings.run)
    loaded = head_file.load_head(path)
    alphabet = labels.ALPHABETS[loaded.origin.settings.script]
    recognizer = Recognizer.from_head(loaded, settings.ttt_lr, build_decoder(settings, alphabet))
    trained = loaded.origin.settings
    # other features have other ids than the texts of the run
    texts = settings.texts or (None if settings.features else trained.texts)
    features = utterances.open_features(settings.features or trained.features, texts)
    for store in features.stores:
        store.require(loaded.origin.recipe_digest, str(path), Recipe.model_validate(loaded.origin.recipe))
    part = settings.part or ("all" if settings.features else "test")
    rows = _rows(settings, recognizer, features, part, path)
    alignment = settings.align_with or "own"
    if settings.out:
        folder = Path(settings.out).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        result_files.write_results(folder, rows, alignment)
    return {
        "checkpoint": str(path),
        "mode": recognizer.settings.mode_name,
        "part": part,
        **({"texts": features.texts.summary()} if features.texts else {}),
        **result_files.summarize_results(rows),
        "cer_interval": _interval(rows),
        "by_partition": result_files.partition_metrics(rows, alignment),
    }


def _rows(
    settings: AcousticEvalSettings, recognizer: Recognizer, features: FeatureSet, part: str, path: Path
) -> list[dict[str, Any]]:
    """A result row for each utterance of the part, sorted by id."""
    from thunder.acoustic.inference import result_files

    trained = recognizer.settings
    examples = _examples(trained, features, part, path)
    partitions = _reference_partitions(settings, features, examples) if settings.align_with else None
    row_fields = {"part": "test" if part == "all" else part, "script": trained.script, "mode": trained.mode_name}
    recognized = recognizer.recognize(features, examples, settings.batch_size, alignment=partitions)
    rows = [
        result_files.correction_row(example, values, **row_fields, run_id=path.parent.name)
        for example, values in recognized
    ]
    return sorted(rows, key=lambda row: row["feat_id"])


def _interval(rows: Sequence[dict[str, Any]]) -> tuple[float, float] | None:
    """Bootstrap interval of the CER over utterances; None if there is none."""
    import numpy as np

    from thunder.statistics.bootstrap import change_intervals

    edits, chars = (np.array([[row[name]] for row in rows]) for name in ("cer_edits", "reference_chars"))
    return change_intervals(edits, chars, seed=0, resamples=RESAMPLES, level=LEVEL)[0]


def _reference_partitions(
    settings: AcousticEvalSettings, features: FeatureSet, examples: Sequence[AcousticExample]
) -> dict[str, Sequence[str]]:
    """Utterance id -> partition of each reference character, aligned by the run that --align-with names.

    Raises ArtifactError if that run was trained on features of another recipe.
    """
    from thunder.acoustic.features.recipe import Recipe
    from thunder.acoustic.head import head_file
    from thunder.acoustic.inference.recognizer import Recognizer

    path = recognizer_checkpoint(str(settings.align_with))
    aligner = head_file.load_head(path)
    for store in features.stores:
        store.require(aligner.origin.recipe_digest, str(path), Recipe.model_validate(aligner.origin.recipe))
    recognized = Recognizer.from_head(aligner).recognize(features, examples, settings.batch_size)
    return {example.id: values["character_partitions"] for example, values in recognized}


def _examples(settings: AcousticSettings, features: FeatureSet, part: str, path: Path) -> list[AcousticExample]:
    """The utterances with a text: those of a part, by the run's split.json, or all of them.

    Raises CorpusError if there are none.
    """
    from thunder.acoustic.dataset import frozen_split, utterances

    examples = [example for example in utterances.label_utterances(settings, features) if example.labels]
    if part != "all":
        frozen = path.parent / "split.json"
        all_utterances = [utterance for store in features.stores for utterance in store.utterances]
        part_ids = set(frozen_split.read_split(frozen, all_utterances).ids(part))
        examples = [example for example in examples if example.id in part_ids]
    if not examples:
        raise CorpusError(f"{part}: no utterance with a text", fix="give another --part or --features")
    return examples
