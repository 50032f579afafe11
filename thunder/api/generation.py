"""Answer texts with a model and its adapter from Python."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from thunder.api.python_options import given_options
from thunder.api.results import PYTHON
from thunder.config import SettingsLayer, build_settings
from thunder.evaluation.engines import Proposal
from thunder.evaluation.generation_settings import GenerationSettings


def generate(texts: Iterable[str], **options: Any) -> list[str]:
    """Correct texts with an adapter, or with a base alone: the same as `thunder generate`.

    Args:
        texts: recognized texts; with `raw_prompt=True`, whole prompts.
        **options: fields of `thunder.evaluation.generation_settings.GenerationSettings`, such as
            `adapter_path="runs/latest/adapters"`.

    Returns:
        One answer for each text.

    Raises:
        UsageError: the options do not fit together.
        ModelError: the model or the adapter cannot be used.
    """
    settings, _ = build_settings(GenerationSettings, [SettingsLayer(PYTHON, given_options(options))])
    return [proposal.text for _, proposal in generate_answers(texts, settings)]


def generate_answers(texts: Iterable[str], settings: GenerationSettings) -> Iterator[tuple[str, Proposal]]:
    """Yield (text, answer) in order; texts are read as they are answered, some batches at a time. A blank text is kept.

    Raises ModelError where the model or the adapter cannot be used.
    """
    from thunder.evaluation import cases, engine_setup

    engine, _ = engine_setup.load_model_engines(
        settings.model or engine_setup.recorded_base(settings.adapter_path),
        settings.adapter_path,
        batch_size=settings.batch_size,
        chunk_words=settings.chunk_words,
        min_margin=settings.min_margin,
        change_margin=settings.change_margin,
        change_edits=settings.change_edits,
    )
    rows = iter(texts)
    while batch := list(itertools.islice(rows, engine.chunk)):
        asked = [
            cases.case_from_prompt(str(place), text, settings.system_prompt, raw=settings.raw_prompt)
            for place, text in enumerate(batch)
            if text.strip()
        ]
        answers = engine.propose(asked)
        for text in batch:
            yield text, next(answers) if text.strip() else Proposal(text)
