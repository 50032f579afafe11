"""Build synthetic correction rows from clean text and an error channel, for warm-up or where real rows are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.corpora.builders import clean_texts, sample_corpus
from thunder.corpora.builders.clean_texts import ChosenTexts, CleanText
from thunder.corpora.builders.corpus_folder import CONFUSIONS, CorpusWriter
from thunder.corpora.builders.describe import corpus_readme, error_model_files
from thunder.corpora.channels import error_channel as channels
from thunder.corpora.channels.error_channel import ErrorChannel
from thunder.corpora.channels.hand_written import hand_written_channel
from thunder.corpora.channels.perturb import WORST_CER, Perturber, perturbation_source
from thunder.corpora.corpus_settings import SyntheticSettings
from thunder.corpora.rows.chatml import chatml_messages
from thunder.corpora.rows.correction_rows import SCHEMA, UNKNOWN, CorrectionReader, RowSource, row_script
from thunder.corpora.rows.jsonl_lines import Progress
from thunder.corpora.splits import eval_only
from thunder.corpora.splits.near_duplicate_index import NearDuplicateIndex
from thunder.corpora.splits.near_duplicates import comparable_key
from thunder.corpora.splits.split_by_reference import PARTS, part_of_mark, text_mark
from thunder.errors import CorpusError
from thunder.text import distance
from thunder.text.distance import ErrorCount

BY_HAND_CER = 0.15
# relative tolerance between the error rate of the rows and the target
TOLERANCE = 0.1
# texts that are chosen for each requested row, because near duplicates are removed afterwards
SPARE = 1.5
GRAMMAR = "the grammar of the sample corpus"
Code = Mapping[str, Any]


def target_error_rate(channel: ErrorChannel, requested: float | None) -> float:
    """Return the error rate to produce: the requested one, else the channel's own, else a fixed one."""
    return requested or min(channel.provenance.get("cer", BY_HAND_CER), WORST_CER - 0.01)


def synthetic_row(name: str, text: CleanText, heard: str, channel: str) -> dict[str, Any]:
    """Return a correction row of a clean text and its corrupted form."""
    row = {
        "schema": SCHEMA,
        "feat_id": name,
        "audio_id": None,
        "source_split": None,
        "script": row_script(text.text),
        "mode": "synthetic",
        "asr_text": heard,
        "reference_text": text.text,
        "cer_edits": distance.edit_distance(heard, text.text),
        "reference_chars": len(text.text),
        "trajectory_scalars": {},
        "partition": UNKNOWN,
        "run_id": None,
        # a text that the channel has no error for is an identity row too
        "origin": "identity" if heard == text.text else "synthetic",
        "evidence_class": "synthetic",
        "source": text.source,
        "channel": channel,
    }
    return row | {"messages": chatml_messages(row)}


def corrupted_rows(
    chosen: Sequence[CleanText], channel: ErrorChannel, target: float, seed: int, spared: Sequence[bool] = ()
) -> Iterator[dict[str, Any]]:
    """Yield a row for each text, corrupted so that all together have the target error rate; spared texts stay right."""
    total = sum(len(text.text) for text in chosen)
    spared = spared or [False] * len(chosen)
    exposed = [text.text for text, spare in zip(chosen, spared, strict=True) if not spare]
    if not exposed:
        return
    perturber = Perturber(channel, min(target * total / sum(map(len, exposed)), WORST_CER - 0.01), every_text=True)
    perturber.calibrate(exposed, seed)
    number = 0
    for at, (text, spare) in enumerate(zip(chosen, spared, strict=True), start=1):
        heard, name = text.text, "identity"
        if not spare:
            heard, name = perturber.corrupt(text.text, perturbation_source(seed, number)), channel.name
            number += 1
        yield synthetic_row(f"synthetic-{at:06d}", text, heard, name)


def build_nko_synthetic_asr_correction_chatml(
    settings: SyntheticSettings,
    code: Code | None = None,
    progress: Progress | None = None,
    made: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Build a corpus of synthetic rows; return its manifest.

    code: commit, for the manifest. made: called with the number of rows written. The errors come from a channel file,
    are learned from real training rows, or are the hand-written ones; the manifest says which. Splits are by reference
    text as in every corpus. A text that shares a stretch with a held-out text is left out before it is corrupted, so
    the requested rows are produced if the text suffices.
    Raises CorpusError for unusable input.
    """
    with CorpusWriter(Path(settings.out)) as writer:
        channel, references, sources = _channel(settings, progress)
        texts = _texts(settings, references, progress)
        by_part, left_out = _divided(settings, texts.chosen)
        target = target_error_rate(channel, settings.target_cer)
        chosen = [(part, text) for part in PARTS for text in by_part[part]]
        if not chosen:
            raise CorpusError("no clean text is left to corrupt", fix="give more with --text")
        spared = _spared([text for _, text in chosen], settings)
        total, unchanged = ErrorCount(), 0
        rows = corrupted_rows([text for _, text in chosen], channel, target, settings.seed, spared)
        for (part, _), row in zip(chosen, rows, strict=True):
            writer.add(part, row)
            total += ErrorCount(row["cer_edits"], row["reference_chars"])
            unchanged += row["origin"] == "identity" and row["channel"] != "identity"
            if made:
                made(1)
        manifest: dict[str, Any] = {
            "builder": "build_nko_synthetic_asr_correction_chatml",
            "code": dict(code or {}),
            "settings": portable_settings(settings.resolved()),
            "sources": [source.as_dict() for source in [*sources, *texts.sources]],
            "left_out": {**texts.left_out, **left_out},
            "notes": _shortfall(settings, len(chosen), total.rate or 0.0, target)
            | ({"texts that the channel has no error for, kept as identity rows": unchanged} if unchanged else {}),
            "channel": {"name": channel.name, **channel.provenance},
            "target_cer": round(target, 6),
            "made_cer": round(total.rate or 0.0, 6),
        }
        extras = error_model_files(channel)
        extras["README.md"] = corpus_readme(manifest, writer.totals)
        return writer.finish(manifest, extras)


def portable_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings for a manifest: paths by their last name, no output folder, so bytes are equal anywhere."""
    names = {"inputs", "text", "learn_from", "channel", "predictions", "references"}
    out = {}
    for key, value in settings.items():
        if key in names and value is not None:
            value = [Path(path).name for path in value] if isinstance(value, list) else Path(value).name
        if key != "out":
            out[key] = value
    return out


def _channel(
    settings: SyntheticSettings, progress: Progress | None
) -> tuple[ErrorChannel, list[CleanText], list[RowSource]]:
    """Return the error channel, the references of the training rows that it was learned from, and the files read."""
    if settings.channel and settings.learn_from:
        raise CorpusError("--channel and --learn-from both name an error model", fix="give one of them")
    if settings.channel:
        path = Path(settings.channel)
        if not path.is_file():
            raise CorpusError(f"{path}: no such file", fix=f"give the {CONFUSIONS} of a corpus folder")
        channel = channels.channel_from_json(path.read_text(encoding="utf-8", errors="replace"), str(path))
        return channel, [], [RowSource(path, digest.sha256_file(path), path.stat().st_size, 0, "error channel")]
    if not settings.learn_from:
        return hand_written_channel(), [], []
    return _learned(settings, progress)


def _learned(
    settings: SyntheticSettings, progress: Progress | None
) -> tuple[ErrorChannel, list[CleanText], list[RowSource]]:
    """Learn the channel of real rows: a corpus folder's training rows, or a file's rows that no corpus holds out."""
    reader = CorrectionReader(recompute=True, progress=progress)
    references: list[CleanText] = []
    held_out = 0

    def pairs() -> Iterator[tuple[str, str]]:
        nonlocal held_out
        for path in map(Path, settings.learn_from or ()):
            folder = path.is_dir()
            for row in reader.file(path / "train.jsonl" if folder else path):
                if row["origin"] != "real":
                    continue
                key = comparable_key(row["reference_text"])
                part = part_of_mark(text_mark(key), settings.salt, settings.valid_share, settings.test_share)
                if eval_only.is_eval_only(text_mark(key)) or (not folder and part != "train"):
                    held_out += 1
                    continue
                references.append(CleanText(row["reference_text"].strip(), row["source"]))
                yield row["asr_text"], row["reference_text"]

    try:
        learned = channels.learn_error_channel(pairs(), {"learned_from": "training rows"}, settings.worst_cer)
    finally:
        reader.finish()
    learned.provenance["held_out_rows_not_learned_from"] = held_out
    return learned, references, reader.sources


def _texts(settings: SyntheticSettings, references: list[CleanText], progress: Progress | None) -> ChosenTexts:
    """Return clean text: from files, else the references learned from, else sentences of the sample grammar."""
    most = int(settings.rows * SPARE) + 50
    if settings.text:
        lengths = (settings.shortest, settings.longest)
        return clean_texts.choose_texts(
            [Path(path) for path in settings.text], settings.column, most, settings.seed, lengths, progress
        )
    if references:
        fit = {text.key: text for text in references if settings.shortest <= len(text.text) <= settings.longest}
        return ChosenTexts(
            sorted(fit.values(), key=lambda text: text_mark(f"{settings.seed}\0{text.key}"))[:most], len(fit), [], {}
        )
    made = sample_corpus.generate_samples(settings.seed, min(settings.rows, 4000))
    return ChosenTexts([CleanText(row["reference_text"], GRAMMAR) for row in made], len(made), [], {})


def _divided(settings: SyntheticSettings, chosen: list[CleanText]) -> tuple[dict[str, list[CleanText]], dict[str, int]]:
    """Return texts by part, at most the requested rows, none a near duplicate of a text of a held-out part."""
    # sentences of the grammar share phrases by design; only whole sentences must not be in two splits
    keep = settings.near_duplicates == "keep" or all(text.source == GRAMMAR for text in chosen)
    by_part: dict[str, list[CleanText]] = {part: [] for part in PARTS}
    for text in chosen:
        by_part[part_of_mark(text_mark(text.key), settings.salt, settings.valid_share, settings.test_share)].append(
            text
        )
    counts = {"valid": round(settings.rows * settings.valid_share), "test": round(settings.rows * settings.test_share)}
    held_out = NearDuplicateIndex(settings.near_duplicate_chars, settings.near_duplicate_edits)
    lost = 0
    for part in ("test", "valid"):
        fit = by_part[part]
        if not keep and part == "valid":
            near = held_out.near([text.key for text in fit])
            lost += sum(match is not None for match in near)
            fit = [text for text, match in zip(fit, near, strict=True) if match is None]
        by_part[part] = fit[: counts[part]]
        held_out.add(range(len(by_part[part])), [text.key for text in by_part[part]])
    if not keep:
        near = held_out.near([text.key for text in by_part["train"]])
        lost += sum(match is not None for match in near)
        by_part["train"] = [text for text, match in zip(by_part["train"], near, strict=True) if match is None]
    by_part["train"] = by_part["train"][: settings.rows - len(by_part["valid"]) - len(by_part["test"])]
    return by_part, {"near duplicates of held-out text": lost} if lost else {}


def _spared(chosen: Sequence[CleanText], settings: SyntheticSettings) -> list[bool]:
    """Return which texts stay right: the requested share of them, selected by hash."""
    order = sorted(range(len(chosen)), key=lambda at: text_mark(f"{settings.seed}\0spared\0{chosen[at].key}"))
    spared = set(order[: round(len(chosen) * settings.identity_share)])
    return [at in spared for at in range(len(chosen))]


def _shortfall(settings: SyntheticSettings, rows: int, cer: float, target: float) -> dict[str, int]:
    notes = {}
    if rows < settings.rows:
        notes["rows asked for and not made, for want of text"] = settings.rows - rows
    if abs(cer / target - 1) > TOLERANCE:
        notes["target error rate missed by more than 10 %"] = 1
    return notes
