"""Options of `thunder eval`; nothing here needs MLX."""

from __future__ import annotations

from typing import Literal

from thunder.config import Settings, option

WHAT, HOW, OUTPUT = "Evaluated rows and model", "Decoding and statistics", "Output"


class EvalSettings(Settings):
    """Options of `thunder eval`: proposals of an engine for recognized texts, compared with their references."""

    rows: str = option(
        ..., "Rows to evaluate on (JSONL): correction rows, before/after, hyp/ref or ChatML.", panel=WHAT
    )
    fields: str | None = option(
        None,
        "Names of the rows' fields where they are not known: hyp=FIELD,ref=FIELD,id=FIELD.",
        panel=WHAT,
        added_later=True,
    )
    model: str | None = option(
        None, "Folder or Hugging Face repository of the base model (default: the tiny one shipped here).", panel=WHAT
    )
    adapter_path: str | None = option(
        None, "Folder of the adapter; without one the base is evaluated.", aliases=["adapter"], panel=WHAT
    )
    engine: str = option(
        "model",
        "Engine: model; identity (the input); oracle (the reference); file:PATH (JSONL: id, proposal).",
        panel=WHAT,
    )
    compare: Literal["base", "none"] | None = option(
        None,
        "Evaluate the base beside the adapter: base or none (default: base where there is an adapter).",
        panel=WHAT,
    )
    limit: int = option(0, "Use only this many rows, from the first; 0 = all.", panel=WHAT, ge=0)

    batch_size: int = option(16, "Rows decoded at once; every size gives the same texts.", panel=HOW, ge=1)
    chunk_words: int = option(
        0,
        "Correct longer inputs in chunks of this many words, joined again; 0 = whole.",
        old_names=["window"],
        panel=HOW,
        ge=0,
    )
    min_margin: float | None = option(
        None,
        "Keep a chunk unchanged unless the answer is likelier by this many nats per code point (choose it on other "
        "rows than these; default: every answer counts).",
        panel=HOW,
    )
    change_margin: float | None = option(
        None,
        "Apply each change of an answer by itself, and only where it makes the chunk likelier by this many nats "
        "(instead of --min-margin, which takes whole answers).",
        panel=HOW,
    )
    change_edits: int | None = option(
        None,
        "With --change-margin: leave out changes of more edits (code points) than this; a copying error of the model "
        "is often a long change.",
        panel=HOW,
        ge=1,
    )
    normalize: Literal["none", "nko"] = option(
        "none",
        "Form in which texts are compared: none (NFC, trimmed), or nko (also without invisible characters and "
        "lajanyalan, with N'Ko digits and punctuation); results.json names the rules.",
        panel=HOW,
    )
    seed: int = option(0, "Seed of the bootstrap.", panel=HOW, ge=0)
    resamples: int = option(2000, "Resamples of the bootstrap.", panel=HOW, ge=100, le=100_000)

    out: str | None = option(None, "Folder to write to (default: runs/<date>-eval-...).", panel=OUTPUT)
    resume: str | None = option(
        None,
        "Resume an interrupted evaluation: its folder; without a value that of --out, else the newest one.",
        panel=OUTPUT,
    )
