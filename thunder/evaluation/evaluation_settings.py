"""Options of `thunder eval`; nothing here needs MLX."""

from __future__ import annotations

from typing import Literal

from thunder.config import Settings, option

WHAT, HOW, OUTPUT = "What is evaluated", "How", "Output"


class EvalSettings(Settings):
    """Options of `thunder eval`: proposals of an engine for recognised texts, against their references."""

    rows: str = option(
        ..., "Rows to evaluate on (JSONL): correction rows, before/after, hyp/ref or ChatML.", panel=WHAT
    )
    model: str | None = option(
        None, "Folder or Hugging Face repository of the base model (default: the tiny one shipped here).", panel=WHAT
    )
    adapter_path: str | None = option(
        None, "Folder of the adapter; without one the base itself is evaluated.", aliases=["adapter"], panel=WHAT
    )
    engine: str = option(
        "model",
        "Who proposes: model; identity (the input again); oracle (the reference); file:PATH (JSONL: id, proposal).",
        panel=WHAT,
    )
    compare: Literal["base", "none"] | None = option(
        None, "Answers of the base beside the adapter's: base or none (default: base where there is one).", panel=WHAT
    )
    limit: int = option(0, "Only the first so many rows; 0 = all.", panel=WHAT, ge=0)

    batch_size: int = option(16, "Rows decoded at once; the texts are the same for every size.", panel=HOW, ge=1)
    chunk_words: int = option(
        0,
        "Correct longer inputs in chunks of this many words, joined again; 0 = whole.",
        old_names=["window"],
        panel=HOW,
        ge=0,
    )
    min_margin: float | None = option(
        None,
        "Keep a piece as it is unless the answer is likelier by so many nats per code point (choose it on other rows "
        "than these; default: every answer is taken).",
        panel=HOW,
    )
    change_margin: float | None = option(
        None,
        "Make each change of an answer by itself, and only where it makes the piece likelier by so many nats (instead "
        "of --min-margin, which takes an answer or leaves it).",
        panel=HOW,
    )
    change_edits: int | None = option(
        None,
        "With --change-margin: leave out changes of more edits (code points) than this; a slip of the model in copying "
        "is often a long one.",
        panel=HOW,
        ge=1,
    )
    seed: int = option(0, "Seed of the bootstrap.", panel=HOW, ge=0)
    resamples: int = option(2000, "Resamples of the bootstrap.", panel=HOW, ge=100, le=100_000)

    out: str | None = option(None, "Folder to write to (default: runs/<date>-eval-...).", panel=OUTPUT)
    resume: str | None = option(
        None, "Go on with a half-done evaluation: its folder; by itself --out, else the newest one.", panel=OUTPUT
    )
