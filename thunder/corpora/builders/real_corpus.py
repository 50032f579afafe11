"""Build a corpus from real correction rows: check, split without leaks, learn the error model of the training rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thunder.corpora.builders import clean_texts
from thunder.corpora.builders.clean_texts import CleanText
from thunder.corpora.builders.corpus_folder import CorpusWriter
from thunder.corpora.builders.describe import corpus_readme, error_classes, error_model_files
from thunder.corpora.builders.spool import RowSpool
from thunder.corpora.builders.synthetic_corpus import Code, corrupted_rows, portable_settings, target_error_rate
from thunder.corpora.builders.totals import edit_counts
from thunder.corpora.channels import error_channel as channels
from thunder.corpora.channels.error_channel import ErrorChannel
from thunder.corpora.channels.hand_written import hand_written_channel
from thunder.corpora.corpus_settings import BuildSettings
from thunder.corpora.rows.chatml import chatml_messages
from thunder.corpora.rows.correction_rows import UNKNOWN, CorrectionReader, RowSource
from thunder.corpora.rows.field_mapping import parse_field_mapping
from thunder.corpora.rows.jsonl_lines import LineFaults, Progress
from thunder.corpora.splits import eval_only, near_duplicates
from thunder.corpora.splits.divide_rows import part_of_split
from thunder.corpora.splits.near_duplicate_index import NearDuplicate, NearDuplicateIndex
from thunder.corpora.splits.split_by_reference import PARTS, part_of_mark, position_of_mark
from thunder.errors import CorpusError

LEFT_OUT = "left out"
BEYOND, BENCHMARK = "beyond --max-cer", "sentences of a benchmark"
# kind of near duplicate -> its name in the manifest
NEAR = {"stretch": "near duplicates of held-out rows", "edits": "near duplicates of held-out rows, by edits"}


@dataclass
class RealCorpusBuild:
    """The state of a build: decisions so far, and counts for the manifest."""

    settings: BuildSettings
    spool: RowSpool
    own_parts: list[str | None] = field(default_factory=list)
    sources: list[RowSource] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    parts: list[str] = field(default_factory=list)


def build_agp_nko_correction_chatml(
    settings: BuildSettings,
    code: Code | None = None,
    progress: Progress | None = None,
    made: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Build a corpus of real rows, with identity and synthetic rows on request; return its manifest.

    One streaming pass over the files checks the rows and spools them. The rows are then split by reference text (and
    recording). Near duplicates of held-out rows are handled as the settings say. The parts are written with real rows
    first. The error model is learned from real training rows only.
    Raises CorpusError that lists every faulty line, or the leaking rows where leaks are refused.
    """
    with CorpusWriter(Path(settings.out)) as writer:
        spool = RowSpool(writer.stage)
        try:
            build = RealCorpusBuild(settings, spool)
            _read(build, progress)
            build.parts = _divide(build)
            _part_near_duplicates(build)
            channel = _learned(build)
            _write(build, writer)
            train = TrainingRows(build, channel, progress)
            for more in (train.identity, train.synthetic):
                for row in more(writer.totals["train"].rows):
                    writer.add("train", row)
                    if made:
                        made(1)
        finally:
            spool.remove()
        manifest = _manifest(build, channel, train.used, code)
        extras = error_model_files(channel)
        extras["README.md"] = corpus_readme(manifest, writer.totals)
        return writer.finish(manifest, extras)


def _read(build: RealCorpusBuild, progress: Progress | None) -> None:
    """Check and spool every row of the inputs."""
    settings = build.settings
    mapping = parse_field_mapping(settings.fields)
    reader = CorrectionReader(settings.recompute, settings.run_id, settings.evidence_class, progress, mapping)
    if not settings.inputs and not settings.predictions:
        raise CorpusError("no files of rows are given", fix="thunder corpus build ROWS.jsonl --out FOLDER")
    if bool(settings.predictions) != bool(settings.references):
        raise CorpusError("--predictions and --references belong together", fix="give both, or one joined file")
    streams: list[Iterator[dict[str, Any]]] = [reader.file(Path(path)) for path in settings.inputs]
    if settings.predictions and settings.references:
        streams.append(reader.joined(Path(settings.predictions), Path(settings.references)))
    for stream in streams:
        rows = benchmark = 0
        for row in stream:
            rows += 1
            if settings.max_cer is not None and row["cer_edits"] > settings.max_cer * row["reference_chars"]:
                build.left_out[BEYOND] += 1
                continue
            build.own_parts.append(part_of_split(row.get("source_split")))
            build.spool.add(row | {"messages": chatml_messages(row)})
            benchmark += build.spool.benchmark[-1]
        eval_only.refuse_eval_only_file(reader.sources[-1].path, reader.sources[-1].sha256, rows, benchmark)
    build.spool.close()
    reader.finish()
    build.sources, build.notes = reader.sources, reader.notes


def _divide(build: RealCorpusBuild) -> list[str]:
    """Assign each row the part of its component; a component with a benchmark sentence is never used for training."""
    settings, spool = build.settings, build.spool
    marks = [spool.ties.mark(node) for node in spool.nodes]
    benchmark_marks = {mark for mark, flag in zip(marks, spool.benchmark, strict=True) if flag}
    if benchmark_marks and settings.benchmark_rows == "refuse":
        raise CorpusError(
            f"{sum(spool.benchmark)} rows are sentences of FLORES-200, which is for evaluation only",
            fix="--benchmark-rows test keeps them in the test part, drop removes them",
        )
    benchmark_part = "test" if settings.benchmark_rows == "test" else LEFT_OUT
    own = _own_parts(build, marks)
    parts: dict[int, str] = {
        mark: benchmark_part
        if mark in benchmark_marks
        else own.get(mark) or part_of_mark(mark, settings.salt, settings.valid_share, settings.test_share)
        for mark in set(marks)
    }
    part_of_row = [parts[mark] for mark in marks]
    if benchmark_part == LEFT_OUT and benchmark_marks:
        build.left_out[BENCHMARK] = part_of_row.count(LEFT_OUT)
    elif benchmark_marks:
        build.notes["rows of a public benchmark, all of them in test"] = sum(spool.benchmark)
    return part_of_row


def _own_parts(build: RealCorpusBuild, marks: list[int]) -> dict[int, str]:
    """Component -> the part that its rows name in `split`, the most held-out one of them; empty where none is used.

    Rows that all name one part, as a recognizer's test predictions do, say nothing of how to divide them.
    """
    counts = Counter(part for part in build.own_parts if part)
    if not counts:
        return {}
    told = ", ".join(f"{counts[part]} {part}" for part in PARTS if counts[part])
    if build.settings.split != "own" or len(counts) == 1:
        build.notes[f"rows that name a part in 'split' ({told}), divided anew"] = counts.total()
        return {}
    build.notes[f"rows in the part that their 'split' names ({told})"] = counts.total()
    own: dict[int, str] = {}
    for mark, part in zip(marks, build.own_parts, strict=True):
        if part:
            own[mark] = max(part, own.get(mark, part), key=PARTS.index)
    return own


def _part_near_duplicates(build: RealCorpusBuild) -> None:
    """Find near duplicates of held-out rows: valid of test, train of both."""
    settings, spool, parts = build.settings, build.spool, build.parts
    held_out = NearDuplicateIndex(settings.near_duplicate_chars, settings.near_duplicate_edits)
    pairs: list[tuple[int, NearDuplicate]] = []
    for part in ("test", "valid", "train"):
        for numbers, keys in spool.keys([row_part == part for row_part in parts]):
            if part != "test":
                near = held_out.near(keys)
                pairs += [(number, match) for number, match in zip(numbers, near, strict=True) if match is not None]
        if part != "train":
            leaky = {number for number, _ in pairs} if settings.near_duplicates == "drop" else set()
            for numbers, keys in spool.keys([row_part == part and n not in leaky for n, row_part in enumerate(parts)]):
                held_out.add(numbers, keys)
    if pairs and settings.near_duplicates == "refuse":
        raise _leaks(build, pairs, held_out.describe())
    times = Counter(NEAR[match.kind] for _, match in pairs)
    if settings.near_duplicates == "keep":
        build.notes.update({f"{name}, kept": times[name] for name in NEAR.values()})
        return
    for number, _ in pairs:
        parts[number] = LEFT_OUT
    build.left_out.update(times)


def _leaks(build: RealCorpusBuild, pairs: list[tuple[int, NearDuplicate]], criteria: str) -> CorpusError:
    listed = pairs[:20]
    wanted = {number for number, _ in listed} | {match.owner for _, match in listed}
    names = {number: row["source"] for number, row in build.spool.rows(wanted)}
    faults = LineFaults()
    for number, match in pairs:
        if faults.count < len(listed):
            held = f"{names[match.owner]} ({build.parts[match.owner]})"
            how = "shares a stretch of text with" if match.kind == "stretch" else "differs by few edits from"
            faults.add(f"{names[number]} ({build.parts[number]}) {how} {held}")
        else:
            faults.count += 1
    return faults.error(
        f"{len(pairs)} rows are near duplicates of a held-out one ({criteria}):",
        fix="--near-duplicates drop removes them from training",
    )


def _learned(build: RealCorpusBuild) -> ErrorChannel | None:
    """Return the error channel of the real training rows, None where they have no errors within --worst-cer."""
    chosen = _chosen(build, [number for number, part in enumerate(build.parts) if part == "train"])
    pairs = ((row["asr_text"], row["reference_text"]) for _, row in build.spool.rows(chosen) if row["origin"] == "real")
    try:
        learned = channels.learn_error_channel(pairs, {"learned_from": "training rows"}, build.settings.worst_cer)
    except CorpusError:
        build.notes["training rows without an error to learn from"] = len(chosen)
        return None
    return learned


def _chosen(build: RealCorpusBuild, numbers: list[int]) -> set[int]:
    """Return at most --statistics-rows of the rows, selected by the marks of their references."""
    most = build.settings.statistics_rows
    return set(numbers if len(numbers) <= most else sorted(numbers, key=lambda n: (build.spool.marks[n], n))[:most])


def _write(build: RealCorpusBuild, writer: CorpusWriter) -> None:
    """Write the real rows to their parts in input order; units other than code points are measured on a sample."""
    kinds = build.spool.kinds()
    measured: set[int] = set()
    for part in PARTS:
        measured |= _chosen(build, [number for number, row_part in enumerate(build.parts) if row_part == part])
    for number, line in enumerate(build.spool.lines()):
        part = build.parts[number]
        if part in PARTS:
            row = json.loads(line) if number in measured else None
            counts = edit_counts(row["asr_text"], row["reference_text"]) if row else None
            kind = kinds[build.spool.kind_number(number)]
            writer.add_line(part, line, build.spool.edits(number), kind, counts)


class TrainingRows:
    """Rows added to the real training rows: rows that are already right, and synthetic rows.

    used: files of clean text and counted reasons for unused lines, for the manifest.
    """

    def __init__(self, build: RealCorpusBuild, channel: ErrorChannel | None, progress: Progress | None) -> None:
        self.build, self.channel, self.progress = build, channel, progress
        self.numbers = [number for number, part in enumerate(build.parts) if part == "train"]
        self.used: dict[str, Any] = {"sources": [], "left_out": {}, "channel": None}

    def identity(self, rows: int) -> Iterator[dict[str, Any]]:
        """Yield rows of unchanged references until right rows reach their share."""
        share, spool = self.build.settings.identity_share, self.build.spool
        right = [number for number in self.numbers if spool.edits(number)[0] == 0]
        count = round(max(0.0, share * rows - len(right)) / (1 - share))
        # rows with one reference have one mark: each reference is taken once
        once = {spool.marks[number]: number for number in reversed(self.numbers) if spool.edits(number)[0]}
        order = sorted(once, key=lambda mark: position_of_mark(mark, self.build.settings.seed))
        for _, row in spool.rows({once[mark] for mark in order[:count]}):
            row |= {
                "feat_id": f"{row['feat_id']}-identity",
                "asr_text": row["reference_text"],
                "cer_edits": 0,
                "trajectory_scalars": {},
                "partition": UNKNOWN if row["partition"] == UNKNOWN else "stable",
                "origin": "identity",
                "evidence_class": "synthetic",
            }
            for key in ("sigils", "cer", "cer_cp", "source_partition"):
                row.pop(key, None)
            yield row | {"messages": chatml_messages(row)}

    def synthetic(self, rows: int) -> Iterator[dict[str, Any]]:
        """Yield corrupted clean text until it reaches its share; rows: the number of rows without it."""
        settings = self.build.settings
        count = round(settings.synthetic_share / (1 - settings.synthetic_share) * rows)
        if not count:
            return
        channel = self.channel or hand_written_channel()
        target = target_error_rate(channel, settings.target_cer)
        clean = self._from_files(count) if settings.text else self._from_rows(count)
        if not clean:
            raise CorpusError("no clean text is left to corrupt", fix="give more with --text")
        self.used["channel"] = channel.name
        self.used["target_cer"] = round(target, 6)
        if len(clean) < count:
            self.build.notes["clean texts used more than once"] = count - len(clean)
        yield from corrupted_rows([clean[at % len(clean)] for at in range(count)], channel, target, settings.seed)

    def _from_rows(self, count: int) -> list[CleanText]:
        """Return references of the training rows, selected by hash."""
        spool = self.build.spool
        once = {spool.marks[number]: number for number in reversed(self.numbers)}
        order = sorted(once, key=lambda mark: position_of_mark(mark, self.build.settings.seed + 1))
        rows = spool.rows({once[mark] for mark in order[:count]})
        return [CleanText(row["reference_text"].strip(), row["source"]) for _, row in rows]

    def _from_files(self, count: int) -> list[CleanText]:
        """Return clean lines of files that are no near duplicates of a held-out row."""
        settings, spool = self.build.settings, self.build.spool
        paths = [Path(path) for path in settings.text or ()]
        choice = clean_texts.choose_texts(
            paths, settings.column, count + count // 2, settings.seed, (8, 200), self.progress
        )
        held_out = NearDuplicateIndex(settings.near_duplicate_chars, settings.near_duplicate_edits)
        marks = set()
        for numbers, keys in spool.keys([part in ("valid", "test") for part in self.build.parts]):
            held_out.add(numbers, keys)
            marks |= set(keys)
        fit = []
        for batch in near_duplicates.batch_by_length(choice.chosen):
            keys = [text.key for text in batch]
            for text, key, match in zip(batch, keys, held_out.near(keys), strict=True):
                if key not in marks and match is None:
                    fit.append(text)
        left_out = dict(choice.left_out)
        if len(fit) < len(choice.chosen):
            left_out[NEAR["stretch"]] = len(choice.chosen) - len(fit)
        self.used["sources"] = choice.sources
        self.used["left_out"] = {f"clean text {reason}": times for reason, times in left_out.items()}
        return fit[:count]


def _manifest(
    build: RealCorpusBuild, channel: ErrorChannel | None, used: dict[str, Any], code: Code | None
) -> dict[str, Any]:
    return {
        "builder": "build_agp_nko_correction_chatml",
        "code": dict(code or {}),
        "settings": portable_settings(build.settings.resolved()),
        "sources": [source.as_dict() for source in [*build.sources, *used["sources"]]],
        "left_out": dict(sorted(build.left_out.items())) | used["left_out"],
        "notes": dict(sorted(build.notes.items())),
        "channel": None if channel is None else {"name": channel.name, **channel.provenance} | error_classes(channel),
        "synthetic_errors": {key: used[key] for key in ("channel", "target_cer") if used.get(key)} or None,
    }
