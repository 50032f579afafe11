"""The test at the end of training: compare the adapter with its base on the test rows, shared by the ranks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.nn as nn

from thunder import digest
from thunder.corpora.rows.chat_rows import ChatRow
from thunder.evaluation import cases
from thunder.evaluation.decoding.model_engine import ModelEngine
from thunder.evaluation.metrics import summary
from thunder.evaluation.metrics.error_rate import score_prediction, summarize_predictions
from thunder.evaluation.metrics.judge import judge_proposal
from thunder.lora.prompts.prompt_format import PromptFormat
from thunder.parallel.gathered_work import gather_work
from thunder.parallel.world import World

PREDICTIONS = "test_predictions.jsonl"
TEST_BATCH = 8  # rows decoded together
# fields of a judged row that its texts and their edits do not determine
_ROW_KEYS = ("partition", "script", "confidence", "confidence_base", "seconds", "flags", "flags_base")


def compare_adapter_with_base(
    model: nn.Module,
    prompts: PromptFormat,
    rows: Sequence[ChatRow],
    world: World,
    folder: Path,
    on_row: Callable[[int, int], None] = lambda done, total: None,
    batch_size: int = TEST_BATCH,
    **decoding: Any,
) -> dict[str, Any]:
    """Answer the rows with the adapter off and on. The ranks share the rows, and rank 0 writes test_predictions.jsonl.

    model: with its adapter on. decoding: chunk_words, min_margin, change_margin and change_edits, as ModelEngine takes
    them.
    Returns on every rank the summary that `results.json` holds under `test`: there, before is the base and after is the
    adapter, and `repair` compares the input with the adapter as `thunder eval` does.
    Raises WorkFailed on every rank where one cannot answer.
    """
    mine = [cases.case_from_row(row, place) for place, row in enumerate(rows)][world.rank :: world.size]

    def answer() -> list[dict[str, Any]]:
        return _judged_answers(model, prompts, mine, on_row, batch_size, decoding)

    gathered = [row for part in gather_work(world, answer) for row in part]
    gathered.sort(key=lambda row: row["place"])
    predictions = [score_prediction(prediction_row(row)) for row in gathered]
    if world.is_main:
        lines = [json.dumps(row, ensure_ascii=False) for row in predictions]
        digest.write_atomically(folder / PREDICTIONS, "".join(f"{line}\n" for line in lines))
    return summarize_predictions(predictions) | {"repair": summary.summarize_rows(gathered)}


def _judged_answers(
    model: nn.Module,
    prompts: PromptFormat,
    mine: Sequence[cases.Case],
    on_row: Callable[[int, int], None],
    batch_size: int,
    decoding: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """This rank's cases, answered with the adapter off and on, and judged."""
    done = 0

    def finished(count: int) -> None:
        nonlocal done
        done += count
        on_row(done, 2 * len(mine))

    proposals = []
    for base_only in (True, False):
        engine = ModelEngine(model, prompts, batch_size, base_only=base_only, **decoding)
        proposals.append(list(engine.propose(mine, finished)))
    return [judge_proposal(case, after, before) for case, before, after in zip(mine, *proposals, strict=True)]


def prediction_row(row: dict[str, Any]) -> dict[str, Any]:
    """A judged row with the field names of test_predictions.jsonl."""
    return {
        "row_id": row["row_id"],
        "asr_text": row["input"],
        "reference_text": row["reference"],
        "prediction_before": row["proposal_base"],
        "prediction_after": row["proposal"],
        **{name: row[name] for name in _ROW_KEYS},
    }
