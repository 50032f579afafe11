"""`thunder corpus`: build corpora of real or synthetic corrections, look at their errors, check files and folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from thunder.api.corpus_build import build_real_corpus, build_synthetic
from thunder.api.results import CorpusResult
from thunder.cli.console.output import say
from thunder.cli.console.progress_bars import files_bar, rows_bar, size_of
from thunder.cli.parsing.flags import ConfigFile, DryRun, flags
from thunder.config import Settings, build_settings
from thunder.corpora.builders import corpus_checks, corpus_folder, sample_corpus
from thunder.corpora.channels import confusions
from thunder.corpora.corpus_settings import BuildSettings, SyntheticSettings
from thunder.corpora.rows import chat_rows
from thunder.corpora.rows.field_mapping import parse_field_mapping
from thunder.errors import ArtifactError, CorpusError
from thunder.launcher.options.setting_layers import file_and_flags
from thunder.units import format_bytes

app = typer.Typer(help="Build and check corpora.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of lines.")]
Count = Annotated[int, typer.Option(min=1, help="Rows of this file.")]
Files = Annotated[list[Path] | None, typer.Argument(help="JSONL files of rows.", show_default=False)]


@app.command("build")
@flags(BuildSettings)
def build_rows(
    files: Files = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    """Make a corpus of real rows: checked, split by reference text, leaks left out, errors counted and drawn."""
    if files:
        given = given | {"inputs": [*map(str, files), *given.get("inputs", [])]}
    settings = _settings(BuildSettings, config, given)
    named = (*settings.inputs, settings.predictions, settings.references, *(settings.text or ()))
    paths = [Path(path) for path in named if path]
    if dry_run:
        return _print_plan(settings, paths, as_json)
    with files_bar(paths) as progress:
        result = build_real_corpus(settings, progress)
    _print_totals(result, as_json)


@app.command()
@flags(SyntheticSettings)
def synthetic(
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    """Make a corpus of clean text with errors learned from real rows, or with those set down by hand."""
    settings = _settings(SyntheticSettings, config, given)
    if dry_run:
        return _print_plan(
            settings, [Path(path) for path in (*(settings.learn_from or ()), *(settings.text or ()))], as_json
        )
    with rows_bar(settings.rows) as made:
        result = build_synthetic(settings, made)
    _print_totals(result, as_json)


@app.command("confusions")
def show_confusions(
    source: Annotated[Path, typer.Argument(help="A corpus folder, a confusions.json, or a file of rows.")],
    picture: Annotated[Path | None, typer.Option(help="Also draw the confusions in this SVG file.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of confusions to show.")] = 30,
    as_json: Json = False,
) -> None:
    """Show what is mistaken for what, and how often: of a corpus, of an error model, or of rows."""
    channel = corpus_checks.learn_channel(source)
    if picture:
        picture.write_text(confusions.confusion_picture(channel, top), encoding="utf-8", newline="\n")
    table = confusions.confusion_table(channel)
    if as_json:
        value = {
            "name": channel.name,
            "classes": confusions.confusions_by_class(table),
            "provenance": channel.provenance,
        }
        return say(json.dumps(value | {"confusions": [one.as_dict() for one in table[:top]]}, ensure_ascii=False))
    for name, times in confusions.confusions_by_class(table).items():
        say(f"{times:8}  {name}")
    say("")
    for one in table[:top]:
        wanted, heard = confusions.display_character(one.wanted), confusions.display_character(one.heard)
        # isolates keep a right-to-left character from reversing the line
        say(f"{one.times:8}  \u2068{wanted}\u2069 -> \u2068{heard}\u2069  {one.kind}")


@app.command()
def sample(
    out: Annotated[Path, typer.Option(help="Folder to write train, valid and test.jsonl and README.md into.")],
    seed: Annotated[int, typer.Option(help="Seed of the sentences.")] = sample_corpus.SEED,
    train: Count = sample_corpus.COUNTS["train"],
    valid: Count = sample_corpus.COUNTS["valid"],
    test: Count = sample_corpus.COUNTS["test"],
    as_json: Json = False,
) -> None:
    """Make a small N'Ko correction corpus: made sentences, made mistakes, for trying things out."""
    counts = {"train": train, "valid": valid, "test": test}
    files = sample_corpus.write_sample_corpus(out, seed, counts)
    if as_json:
        return say(json.dumps([file.as_dict() for file in files], ensure_ascii=False, indent=4))
    for file in files:
        say(f"{file.path}: {file.rows} rows, CER {file.cer:.4f}, sha256 {file.sha256}")


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="Files of rows.", show_default=False)],
    fields: Annotated[str | None, typer.Option(help="Names of fields: hyp=FIELD,ref=FIELD,id=FIELD.")] = None,
    recompute: Annotated[bool, typer.Option(help="Accept cer_edits that differ from the recomputed value.")] = False,
    as_json: Json = False,
) -> None:
    """Read files of rows as training would, and say what is in them; faulty lines are listed (exit code 2).

    Correction rows are checked field by field as well, and their edits are counted again.
    """
    mapping = parse_field_mapping(fields)
    corpora = chat_rows.read_row_files(files, mapping=mapping)
    notes = [corpus_checks.correction_notes(corpus, recompute, mapping) for corpus in corpora]
    characters = [corpus_checks.count_unusual_characters(corpus) for corpus in corpora]
    if as_json:
        summaries = [
            corpus.summary() | {"notes": row_notes, "characters": found}
            for corpus, row_notes, found in zip(corpora, notes, characters, strict=True)
        ]
        return say(json.dumps(summaries, ensure_ascii=False, indent=4))
    for corpus, row_notes, found in zip(corpora, notes, characters, strict=True):
        say(corpus.describe() + "".join(f"; {name}: {times}" for name, times in row_notes.items()))
        for line in corpus.reading_notes():
            say(f"  {line}")
        for where, counts in found.items():
            say(f"  {where}: " + "; ".join(f"{name}: {times}" for name, times in counts.items()))


@app.command()
def verify(
    folders: Annotated[list[Path], typer.Argument(help="Corpus folders.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Check corpus folders against their manifests, and that nothing held out is trained on (exit code 4)."""
    reports, faults = [], []
    for path in folders:
        try:
            manifest = corpus_folder.verify_corpus(path)
            reports.append(
                {"folder": str(path), "files": len(manifest["files"]), **corpus_checks.count_leaks(path, manifest)}
            )
        except ArtifactError as error:
            faults.append(error)
    if faults:
        raise ArtifactError("\n".join(error.message for error in faults), fix=faults[0].fix)
    if as_json:
        return say(json.dumps(reports, ensure_ascii=False, indent=4))
    for report in reports:
        say(
            f"{report['folder']}: {report['files']} files match the manifest; "
            f"{report['near_duplicates']} near duplicates ({report['by_shared_stretch']} by a shared stretch, "
            f"{report['by_edits']} by edits) of {report['held_out_texts']} held-out texts among "
            f"{report['compared_texts']}; looked for: {report['looked_for']}"
        )


def _settings(kind: type[Any], config: Path | None, given: dict[str, Any]) -> Any:
    return build_settings(kind, file_and_flags(kind, config, given))[0]


def _print_plan(settings: Settings, paths: list[Path], as_json: bool) -> None:
    """What would be done: nothing is read or written, but files that are not there are named."""
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise CorpusError(f"there is no {', '.join(missing)}", fix="give paths that exist")
    resolved = settings.resolved()
    corpus_folder.refuse_foreign_folder(Path(resolved["out"]))
    if as_json:
        return say(json.dumps({"settings": resolved, "bytes": size_of(paths)}, ensure_ascii=False, indent=4))
    for name, value in resolved.items():
        if value is not None:
            say(f"{name:22} {', '.join(value) if isinstance(value, list) else value}")
    say(f"{'would read':22} {len(paths)} files, {format_bytes(size_of(paths))}")


def _print_totals(result: CorpusResult, as_json: bool) -> None:
    out, manifest = result.folder, result.manifest
    if as_json:
        return say(json.dumps({"out": str(out), **manifest}, ensure_ascii=False, indent=4))
    for part, totals in manifest["parts"].items():
        if totals["rows"]:
            say(
                f"{out / part}.jsonl: {totals['rows']} rows, CER {totals['cer']:.4f} (by grapheme "
                f"{totals['cer_grapheme']:.4f}, without tones {totals['cer_toneless']:.4f}), WER {totals['wer']:.4f}"
            )
    for reason, times in (manifest["left_out"] | manifest["notes"]).items():
        say(f"  {reason}: {times}")
    say(f"next: ./launch.sh --data {out}")
