"""Train the character n-gram of a script from text files; report excluded texts and held-out perplexity."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from thunder import digest
from thunder.acoustic.decoding import arpa
from thunder.acoustic.decoding.ngram import NgramFit, estimate_ngram, measure_fit
from thunder.config import Settings, option
from thunder.corpora.builders import clean_texts
from thunder.corpora.rows.jsonl_lines import JsonLines, LineFault, LineFaults, Progress, json_object
from thunder.corpora.splits.split_by_reference import part_of_mark, text_mark
from thunder.errors import CorpusError
from thunder.text.alphabet import LATIN, NKO, Alphabet
from thunder.text.normalize import spoken_form

ALPHABETS: dict[str, Alphabet] = {"nko": NKO, "latin": LATIN}
COLUMNS = {"nko": "nqo", "latin": "bam"}
# fields of a row that can hold the spoken text
TEXT_FIELDS = ("text", "transcript", "sentence", "text_nko", "text_latin", "reference_text")
EXCLUDED = "texts of --exclude"
UNLABELLED = "letters that the script has no label for"
# code points; longer texts are not sentences, and no known file has one
MAX_TEXT_LENGTH = 100_000


class NgramSettings(Settings):
    """Options of `thunder asr ngram`."""

    text: list[str] = option(
        ..., "Files of text: .tsv with a header, .jsonl, or one text a line.", panel="Input", min_length=1
    )
    column: str | None = option(
        None, "Column or field of the text (default: nqo for N'Ko, bam for Latin).", panel="Input"
    )
    script: Literal["nko", "latin"] = option(..., "Script of the text and of the recognizer's labels.", panel="Input")
    exclude: list[str] = option(
        [], "JSONL files, such as the metadata.jsonl of a test, whose texts are excluded.", panel="Input"
    )
    order: int = option(5, "Length of the longest n-gram, in characters.", panel="Model", ge=1, le=10)
    holdout: float = option(
        0.02, "Share of the texts held out by hash, to measure perplexity.", panel="Model", ge=0, lt=1
    )
    out: str = option(..., "ARPA file to write.", panel="Output")


@dataclass(frozen=True)
class NgramReport:
    """Counts and quality of a trained n-gram; perplexity: per character, on held-out texts; None if there are none."""

    texts: int
    characters: int
    ngrams: tuple[int, ...]
    heldout_texts: int
    perplexity: float | None
    left_out: dict[str, int]
    sources: tuple[dict[str, Any], ...]
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self)


def train_ngram(settings: NgramSettings, progress: Progress | None = None) -> NgramReport:
    """Count the n-grams, write the ARPA file and measure its perplexity.

    Raises CorpusError for files that cannot be read or are a benchmark, and if no text is left.
    """
    alphabet, column = ALPHABETS[settings.script], settings.column or COLUMNS[settings.script]
    pool = clean_texts.choose_texts(
        [Path(path) for path in settings.text], column, 1 << 62, 0, (1, MAX_TEXT_LENGTH), progress
    )
    excluded = _read_texts([Path(path) for path in settings.exclude], alphabet)
    left_out, counted, heldout = Counter(pool.left_out), [], []
    for text in pool.chosen:
        spoken = spoken_form(text.text, alphabet)
        if not spoken or alphabet.unknown_characters(spoken):
            left_out[UNLABELLED if spoken else "nothing that is heard"] += 1
            continue
        if spoken in excluded:
            left_out[EXCLUDED] += 1
            continue
        part = part_of_mark(text_mark(text.key), "ngram", 0.0, settings.holdout)
        (heldout if part == "test" else counted).append(alphabet.encode(spoken))
    if not counted:
        reasons = ", ".join(f"{reason}: {times}" for reason, times in left_out.items()) or "the files are empty"
        raise CorpusError(
            f"no text of {len(settings.text)} files can be counted ({reasons})", "give the other --script"
        )
    model = estimate_ngram(alphabet.labels, counted, settings.order)
    arpa.write_arpa(Path(settings.out), model)
    # measure the file's rounded values
    fit_of_heldout: NgramFit = measure_fit(arpa.read_arpa(Path(settings.out)), alphabet.labels, heldout)
    return NgramReport(
        texts=len(counted),
        characters=sum(map(len, counted)),
        ngrams=tuple(len(table.keys) for table in model.tables),
        heldout_texts=len(heldout),
        perplexity=fit_of_heldout.perplexity if heldout else None,
        left_out=dict(left_out),
        sources=tuple(
            {"path": str(source.path), "sha256": source.sha256, "rows": source.rows} for source in pool.sources
        ),
        sha256=digest.sha256_file(Path(settings.out)),
    )


def _read_texts(paths: list[Path], alphabet: Alphabet) -> set[str]:
    """Spoken forms of the texts in JSONL rows. Raises CorpusError that lists every line without a row or a text."""
    texts: set[str] = set()
    for path in paths:
        faults = LineFaults()
        for number, line in JsonLines(path, faults):
            try:
                row = json_object(line)
                row_texts = [row[name] for name in TEXT_FIELDS if isinstance(row.get(name), str)]
                if not row_texts:
                    raise LineFault(f"has none of {', '.join(TEXT_FIELDS)}")
                texts.update(spoken_form(text, alphabet) for text in row_texts)
            except LineFault as fault:
                faults.add(f"{path}:{number}: {fault}")
        if faults:
            raise faults.error(f"{path} cannot be used:", fix="give JSONL rows with a text, such as a metadata.jsonl")
    return texts
