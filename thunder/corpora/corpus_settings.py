"""Define the options of the corpus builders."""

from __future__ import annotations

from typing import Literal

from thunder.config import Settings, option

INPUT, ROWS, SPLITS, SYNTHETIC, OUTPUT = "Input", "Which rows", "Splits and leaks", "Synthetic rows", "Output"
Evidence = Literal["oracle", "smoke", "synthetic", "prediction_only", "real_same_provenance", "real_other_provenance"]


class CorpusSettings(Settings):
    """The options that both builders share."""

    out: str = option(..., "Folder to make; one that `thunder corpus` made before is replaced.", panel=OUTPUT)
    seed: int = option(0, "Seed of the identity rows, clean texts and errors; splits do not depend on it.", ge=0)
    text: list[str] | None = option(
        None, "Clean text to corrupt: .tsv with a header, .jsonl, or one text on each line.", panel=SYNTHETIC
    )
    column: str = option("nqo", "Column or field of the clean text.", panel=SYNTHETIC)
    target_cer: float | None = option(
        None,
        "Error rate (micro, by code points) of the synthetic rows (default: the channel's; 0.15 if hand-written).",
        panel=SYNTHETIC,
        gt=0,
        lt=0.9,
    )
    worst_cer: float = option(
        1.0, "The error model does not learn from rows above this error rate.", panel=SYNTHETIC, gt=0, le=10
    )
    identity_share: float = option(
        0.1, "Share of training rows without errors, to learn not to change correct text.", panel=ROWS, ge=0, lt=1
    )
    valid_share: float = option(0.05, "Share of the reference texts held out for validation.", panel=SPLITS, ge=0, lt=1)
    test_share: float = option(0.1, "Share of the reference texts held out for the test.", panel=SPLITS, ge=0, lt=1)
    salt: str = option("thunder", "Salt of the split: another value holds out other references.", panel=SPLITS)
    near_duplicates: Literal["drop", "refuse", "keep"] = option(
        "drop",
        "Treatment of rows that share a stretch of text with a held-out row or differ from it by few edits: drop them "
        "from training, refuse them as a fault, or keep and count them.",
        panel=SPLITS,
    )
    near_duplicate_chars: int = option(20, "Length of such a stretch, in code points.", panel=SPLITS, ge=5, le=1000)
    near_duplicate_edits: float = option(
        0.1,
        "Most edits of such rows, as a share of the shorter text's code points; at least one edit from 4 code points "
        "on, at most 20; 0 = compare stretches only.",
        panel=SPLITS,
        ge=0,
        le=0.2,
    )


class BuildSettings(CorpusSettings):
    """Options of `thunder corpus build`: real correction rows to a corpus."""

    inputs: list[str] = option(
        [],
        "Files of correction rows, or of before + after, hyp + ref and other pairs (JSONL).",
        aliases=["rows"],
        panel=INPUT,
    )
    fields: str | None = option(
        None,
        "Names of the fields of the inputs where they are not known: hyp=FIELD,ref=FIELD,id=FIELD.",
        panel=INPUT,
        added_later=True,
    )
    predictions: str | None = option(None, "A run's test_predictions.jsonl; with --references.", panel=INPUT)
    references: str | None = option(None, "A run's test_references.jsonl, joined by feat_id.", panel=INPUT)
    run_id: str | None = option(None, "run_id of rows that have none.", panel=INPUT)
    evidence_class: Evidence | None = option(
        None,
        "Evidence class of rows that have none (default: real_same_provenance for correction rows of a run, "
        "else real_other_provenance).",
        panel=INPUT,
    )
    split: Literal["own", "by-reference"] = option(
        "own",
        "Rows that name different parts in a field 'split': own = in that part; by-reference = divided by hash.",
        panel=SPLITS,
        added_later=True,
    )
    recompute: bool = option(False, "Replace a cer_edits that differs from the recomputed value.", panel=INPUT)
    max_cer: float | None = option(
        None, "Drop rows above this error rate, such as 0.3: they are rewrites.", panel=ROWS, gt=0
    )
    benchmark_rows: Literal["test", "drop", "refuse"] = option(
        "test",
        "Destination of rows whose reference is a sentence of a public benchmark; never training.",
        panel=SPLITS,
    )
    synthetic_share: float = option(
        0.0, "Share of synthetic rows among the training rows, after the real ones.", panel=SYNTHETIC, ge=0, lt=1
    )
    statistics_rows: int = option(
        20000,
        "Most rows of a part that the error model and the counts of graphemes, tones and words use.",
        panel=SYNTHETIC,
        ge=1,
    )


class SyntheticSettings(CorpusSettings):
    """Options of `thunder corpus synthetic`: corrupted clean text."""

    rows: int = option(2000, "Rows to make, all splits together.", panel=ROWS, ge=1)
    learn_from: list[str] | None = option(
        None,
        "Real rows to learn the errors from (files, or corpus folders, of which train.jsonl is read); "
        "without --text their references are the clean text.",
        panel=SYNTHETIC,
    )
    channel: str | None = option(
        None, "A confusions.json to take the errors from (default: learned, else hand-written).", panel=SYNTHETIC
    )
    shortest: int = option(8, "Shortest clean text, in code points.", panel=SYNTHETIC, ge=1)
    longest: int = option(200, "Longest clean text, in code points.", panel=SYNTHETIC, ge=1)
