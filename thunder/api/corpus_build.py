"""Build corpora from Python: of real rows, or of clean text with learned or hand-written errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from thunder.api.python_options import FilePath, given_options, input_paths
from thunder.api.results import PYTHON, CorpusResult
from thunder.config import REPOSITORY, SettingsLayer, build_settings
from thunder.corpora.builders.real_corpus import build_agp_nko_correction_chatml
from thunder.corpora.builders.synthetic_corpus import build_nko_synthetic_asr_correction_chatml
from thunder.corpora.corpus_settings import BuildSettings, SyntheticSettings
from thunder.runs.records.environment import current_commit


def build_corpus(
    inputs: FilePath | Sequence[FilePath] = (), *, on_bytes: Callable[[int], None] = lambda count: None, **options: Any
) -> CorpusResult:
    """Make a corpus of real rows: checked, split by reference text, leaks left out, errors counted and drawn.

    The same as `thunder corpus build`.

    Args:
        inputs: JSONL file of rows, or several.
        on_bytes: called with the bytes read since the last call.
        **options: fields of `thunder.corpora.corpus_settings.BuildSettings`; `out` names the folder.

    Returns:
        The folder, with rows and CER by part.

    Raises:
        UsageError: an option cannot be used, or the folder holds something else.
        CorpusError: rows are faulty; all of them are listed.
    """
    given = given_options(options)
    if inputs:
        given["inputs"] = [*input_paths(inputs), *given.get("inputs", [])]
    settings, _ = build_settings(BuildSettings, [SettingsLayer(PYTHON, given)])
    return build_real_corpus(settings, on_bytes)


def build_synthetic_corpus(*, on_rows: Callable[[int], None] = lambda count: None, **options: Any) -> CorpusResult:
    """Make a corpus of clean text with errors learned from real rows, or with those set down by hand.

    The same as `thunder corpus synthetic`.

    Args:
        on_rows: called with the rows made since the last call.
        **options: fields of `thunder.corpora.corpus_settings.SyntheticSettings`; `out` names the folder.

    Returns:
        The folder, with rows and CER by part.

    Raises:
        UsageError: an option cannot be used, or the folder holds something else.
        CorpusError: rows or texts cannot be used.
    """
    given = given_options(options)
    settings, _ = build_settings(SyntheticSettings, [SettingsLayer(PYTHON, given)])
    return build_synthetic(settings, on_rows)


def build_real_corpus(settings: BuildSettings, on_bytes: Callable[[int], None]) -> CorpusResult:
    """Build what the settings name; see `build_corpus`."""
    manifest = build_agp_nko_correction_chatml(settings, current_commit(REPOSITORY), on_bytes)
    return _corpus_result(Path(settings.out), manifest)


def build_synthetic(settings: SyntheticSettings, on_rows: Callable[[int], None]) -> CorpusResult:
    """Build what the settings name; see `build_synthetic_corpus`."""
    manifest = build_nko_synthetic_asr_correction_chatml(settings, current_commit(REPOSITORY), None, on_rows)
    return _corpus_result(Path(settings.out), manifest)


def _corpus_result(folder: Path, manifest: Mapping[str, Any]) -> CorpusResult:
    parts = {name: part for name, part in manifest["parts"].items() if part["rows"]}
    rows = {name: part["rows"] for name, part in parts.items()}
    return CorpusResult(folder, rows, {name: part["cer"] for name, part in parts.items()}, manifest)
