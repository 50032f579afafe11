"""Does an adapter repair? Greedy answers of the base and of the adapter to the same rows, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.generate import generate_step

from thunder import digest
from thunder.corpora.rows import Row
from thunder.evaluation.error_rate import scored, summarise
from thunder.lora import adapters
from thunder.parallel import collectives
from thunder.parallel.world import World

PREDICTIONS = "test_predictions.jsonl"


def answer(model: nn.Module, tokenizer: Any, row: Row, stops: set[int]) -> str:
    """The model's greedy answer to a row's prompt.

    At most twice the tokens of the recognised text and 16 more, so that a model that loops comes to an end.
    """
    prompt = tokenizer.apply_chat_template(list(row.prompt_messages), add_generation_prompt=True, return_dict=False)
    limit = 2 * len(tokenizer.encode(row.asr_text, add_special_tokens=False)) + 16
    tokens: list[int] = []
    for token, _ in generate_step(mx.array(prompt), model, max_tokens=limit):
        if int(token) in stops:
            break
        tokens.append(int(token))
    return tokenizer.decode(tokens, skip_special_tokens=True)


def stop_tokens(tokenizer: Any, model_config: dict[str, Any]) -> set[int]:
    """Ids that end an answer: the tokenizer's and those of the model's config."""
    ids = model_config.get("eos_token_id", [])
    return {tokenizer.eos_token_id, *(ids if isinstance(ids, list) else [ids])} - {None}


def compare(
    model: nn.Module,
    tokenizer: Any,
    rows: Sequence[Row],
    stops: set[int],
    world: World,
    folder: Path,
    on_row: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Answer the rows with the adapter off and on; ranks share the rows; rank 0 writes test_predictions.jsonl.

    model: with its adapter on. Returns the summary that `results.json` holds under `test`, on every rank.
    """
    model.eval()
    mine = list(enumerate(rows))[world.rank :: world.size]
    texts: dict[str, list[str]] = {"before": [], "after": []}
    for when in texts:
        kept = adapters.switch_off(model) if when == "before" else {}
        for _, row in mine:
            texts[when].append(answer(model, tokenizer, row, stops))
            on_row(len(texts["before"]) + len(texts["after"]), 2 * len(mine))
        adapters.switch_on(model, kept)
    answered = [
        {
            "place": place,
            "row_id": row.row_id,
            "asr_text": row.asr_text,
            "reference_text": row.reference,
            "prediction_before": before,
            "prediction_after": after,
        }
        for (place, row), before, after in zip(mine, texts["before"], texts["after"], strict=True)
    ]
    gathered = sorted(
        (row for part in collectives.gather_json(world, answered) for row in part), key=lambda row: row["place"]
    )
    predictions = [scored({name: value for name, value in row.items() if name != "place"}) for row in gathered]
    if world.is_main:
        lines = [json.dumps(row, ensure_ascii=False) for row in predictions]
        digest.write_atomically(folder / PREDICTIONS, "".join(f"{line}\n" for line in lines))
    return summarise(predictions)
