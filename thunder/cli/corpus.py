"""`thunder corpus`: make the sample corpus, and say what is in a file of rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from thunder.corpora import rows
from thunder.corpora import sample as sample_corpus

app = typer.Typer(help="Make and check corpora.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of lines.")]
Count = Annotated[int, typer.Option(min=1, help="Rows of this file.")]


@app.command()
def sample(
    out: Annotated[Path, typer.Option(help="Folder to write train, valid and test.jsonl and README.md into.")],
    seed: Annotated[int, typer.Option(help="Another seed makes other sentences.")] = sample_corpus.SEED,
    train: Count = sample_corpus.COUNTS["train"],
    valid: Count = sample_corpus.COUNTS["valid"],
    test: Count = sample_corpus.COUNTS["test"],
    as_json: Json = False,
) -> None:
    """Make a small N'Ko correction corpus: made sentences, made mistakes, for trying things out."""
    counts = {"train": train, "valid": valid, "test": test}
    files = sample_corpus.write(out, seed, counts)
    if as_json:
        typer.echo(json.dumps([file.as_dict() for file in files], ensure_ascii=False, indent=4))
        return
    for file in files:
        typer.echo(f"{file.path}: {file.rows} rows, CER {file.cer:.4f}, sha256 {file.sha256}")


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="JSONL files.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Read files of rows as training would, and say what is in them; faulty lines are listed (exit code 2)."""
    corpora = rows.read_all(files)
    if as_json:
        typer.echo(json.dumps([corpus.summary() for corpus in corpora], ensure_ascii=False, indent=4))
        return
    for corpus in corpora:
        typer.echo(corpus.describe())
