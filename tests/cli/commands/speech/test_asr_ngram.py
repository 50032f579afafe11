"""`thunder asr ngram` prints the model that it made."""

import json

import typer
from ngram_options import LINES, settings_for
from typer.testing import CliRunner

from thunder.acoustic.decoding.ngram_training import UNLABELLED
from thunder.cli.commands.speech.asr_ngram import ngram


def test_the_command_prints_what_it_made(tmp_path):
    app = typer.Typer()
    app.command()(ngram)
    settings = settings_for(tmp_path, LINES)
    words = [settings.text[0], "--script", "latin", "--order", "2", "--out", settings.out]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0 and "2-grams of" in told.stdout and f"left out, {UNLABELLED}: 1" in told.stdout
    value = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert value["out"] == settings.out and len(value["ngrams"]) == 2
    assert value["sources"][0]["rows"] == len(LINES)
