import json

import pytest
from typer.testing import CliRunner

from thunder.cli.corpus import app
from thunder.errors import CorpusError


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)


def test_sample_then_validate(tmp_path):
    made = run("sample", "--out", tmp_path, "--seed", 3, "--train", 6, "--valid", 2, "--test", 2, "--json")
    assert made.exit_code == 0
    files = json.loads(made.stdout)
    assert [file["rows"] for file in files] == [6, 2, 2]
    checked = run("validate", *(file["path"] for file in files), "--json")
    assert [file["cer"] for file in json.loads(checked.stdout)] == [file["cer"] for file in files]


def test_lines_for_people(tmp_path):
    assert "train.jsonl: 3 rows, CER 0." in run("sample", "--out", tmp_path, "--train", 3).stdout
    assert "train.jsonl: 3 rows, messages, CER 0." in run("validate", tmp_path / "train.jsonl").stdout


def test_faults_rise_to_the_outer_command(tmp_path):
    with pytest.raises(CorpusError, match="No such file"):
        raise run("validate", tmp_path / "none.jsonl").exception


def test_no_rows_is_no_sample(tmp_path):
    assert run("sample", "--out", tmp_path, "--train", 0).exit_code == 2
