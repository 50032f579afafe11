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
    """Error rates of a run's best checkpoint on its test part, or on other features of the same recipe."""
    asked, _ = build_settings(AcousticEvalSettings, [SettingsLayer("command line", given)])
    if asked.out:
        setting_paths.check_writable(Path(asked.out).expanduser())
    found = tested(asked)
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
        return
    low, high = found["cer_interval"] or (float("nan"),) * 2
    say(f"{found['checkpoint']}: {found['mode']}, {found['rows']} utterances ({found['part']})")
    say(f"CER {found['cer']:.4f} ({low:.4f} to {high:.4f}, {LEVEL:.0%} over utterances), WER {found['wer']:.4f}")
    say(f"{found['exact']} exact, {found['empty']} empty")
    by = found["by_partition"]
    for name, counts in (
        *by["partitions"].items(),
        *((f"{name} characters", one) for name, one in by["lengths"].items()),
    ):
        rate = "-" if counts["cer"] is None or not counts["rows"] else f"{counts['cer']:.4f}"
        say(f"  {name}: {counts['rows']} utterances, CER {rate}")


def tested(asked: AcousticEvalSettings) -> dict[str, Any]:
    """What the command prints; rows and metrics are written where a folder is named."""
    from thunder.acoustic import labels
    from thunder.acoustic.dataset import utterances
    from thunder.acoustic.decoding.decoder import build_decoder
    from thunder.acoustic.head import head_file
    from thunder.acoustic.inference import result_files
    from thunder.acoustic.inference.recognizer import Recognizer

    path = recognizer_checkpoint(asked.run)
    loaded = head_file.load_head(path)
    alphabet = labels.ALPHABETS[loaded.origin.settings.script]
    recognizer = Recognizer.from_head(loaded, asked.ttt_lr, build_decoder(asked, alphabet))
    features = utterances.open_features(asked.features or loaded.origin.settings.features)
    for store in features.stores:
        store.require(loaded.origin.recipe_digest, str(path))
    part = asked.part or ("all" if asked.features else "test")
    rows = _rows(asked, recognizer, features, part, path)
    alignment = asked.align_with or "own"
    if asked.out:
        folder = Path(asked.out).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        result_files.write_results(folder, rows, alignment)
    return {
        "checkpoint": str(path),
        "mode": recognizer.settings.mode_name,
        "part": part,
        **result_files.summarize_results(rows),
        "cer_interval": _interval(rows),
        "by_partition": result_files.partition_metrics(rows, alignment),
    }


def _rows(
    asked: AcousticEvalSettings, recognizer: Recognizer, features: FeatureSet, part: str, path: Path
) -> list[dict[str, Any]]:
    """A row for each utterance of the part, in the order of ids."""
    from thunder.acoustic.inference import result_files

    settings = recognizer.settings
    examples = _examples(settings, features, part, path)
    aligned = _aligned(asked, features, examples) if asked.align_with else None
    said = {"part": "test" if part == "all" else part, "script": settings.script, "mode": settings.mode_name}
    heard = recognizer.recognize(features, examples, asked.batch_size, alignment=aligned)
    rows = [result_files.correction_row(one, each, **said, run_id=path.parent.name) for one, each in heard]
    return sorted(rows, key=lambda row: row["feat_id"])


def _interval(rows: Sequence[dict[str, Any]]) -> tuple[float, float] | None:
    """Of the CER, by drawing utterances anew."""
    import numpy as np

    from thunder.statistics.bootstrap import change_intervals

    edits, chars = (np.array([[row[name]] for row in rows]) for name in ("cer_edits", "reference_chars"))
    return change_intervals(edits, chars, seed=0, resamples=RESAMPLES, level=LEVEL)[0]


def _aligned(
    asked: AcousticEvalSettings, features: FeatureSet, examples: Sequence[AcousticExample]
) -> dict[str, Sequence[str]]:
    """Utterance -> partition of each reference character, by the run that --align-with names.

    Raises ArtifactError where it is of features of another recipe.
    """
    from thunder.acoustic.head import head_file
    from thunder.acoustic.inference.recognizer import Recognizer

    path = recognizer_checkpoint(str(asked.align_with))
    other = head_file.load_head(path)
    for store in features.stores:
        store.require(other.origin.recipe_digest, str(path))
    heard = Recognizer.from_head(other).recognize(features, examples, asked.batch_size)
    return {one.id: said["character_partitions"] for one, said in heard}


def _examples(settings: AcousticSettings, features: FeatureSet, part: str, path: Path) -> list[AcousticExample]:
    """The utterances with a text: of a part as the run's split.json has it, or all of them.

    Raises CorpusError where there is none.
    """
    from thunder.acoustic.dataset import frozen_split, utterances

    examples = [one for one in utterances.label_utterances(settings, features) if one.labels]
    if part != "all":
        frozen = path.parent / "split.json"
        everything = [one for store in features.stores for one in store.utterances]
        wanted = set(frozen_split.read_split(frozen, everything).ids(part))
        examples = [one for one in examples if one.id in wanted]
    if not examples:
        raise CorpusError(f"{part}: no utterance with a text", fix="another --part or --features")
    return examples
