import json
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY, write_rows
from typer.testing import CliRunner

from thunder import digest
from thunder.cli.commands.corpora.corpus import app
from thunder.corpora.builders import sample_corpus
from thunder.errors import ArtifactError, CorpusError


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


def thunder(*arguments, **options):
    command = [sys.executable, "-m", "thunder", "corpus", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=REPOSITORY, **options)


@pytest.fixture
def pairs(tmp_path):
    made = sample_corpus.generate_samples(5, 60)
    return write_rows(tmp_path / "rows.jsonl", [{"hyp": row["asr_text"], "ref": row["reference_text"]} for row in made])


def test_build_verify_confusions(tmp_path, pairs):
    out = tmp_path / "corpus"
    # sentences of the sample grammar share phrases
    built = run("build", pairs, "--out", out, "--near-duplicates", "keep", "--test-share", 0.2, "--json")
    assert built.exit_code == 0, built.output
    manifest = json.loads(built.stdout)
    assert sum(part["origin"].get("real", 0) for part in manifest["parts"].values()) == 60
    assert manifest["code"].keys() == {"commit", "dirty"}
    verified = run("verify", out).stdout
    assert f"{out}: 6 files match the manifest" in verified
    assert "looked for: 20 shared code points, or edits up to 10% of the shorter text" in verified
    held = manifest["parts"]["test"]["rows"] + manifest["parts"]["valid"]["rows"]
    assert f"of {held} held-out texts among " in verified
    checked = json.loads(run("validate", out / "train.jsonl", "--json").stdout)
    assert checked[0]["rows"] == manifest["parts"]["train"]["rows"]
    picture = tmp_path / "errors.svg"
    shown = json.loads(run("confusions", out, "--picture", picture, "--json").stdout)
    assert shown["classes"] == manifest["channel"]["classes"]
    assert picture.read_text(encoding="utf-8").startswith("<svg")
    assert run("confusions", pairs, "--top", 3).exit_code == 0


def test_verify_finds_a_reference_in_two_parts(tmp_path, pairs):
    out = tmp_path / "corpus"
    run("build", pairs, "--out", out, "--near-duplicates", "keep", "--test-share", 0.2)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    with (out / "train.jsonl").open("a", encoding="utf-8") as stream:
        stream.write((out / "test.jsonl").read_text(encoding="utf-8").splitlines()[0] + "\n")
    manifest["files"]["train.jsonl"]["sha256"] = digest.sha256_file(out / "train.jsonl")
    digest.write_json(out / "manifest.json", manifest)
    with pytest.raises(ArtifactError, match="is in test and in train"):
        raise run("verify", out).exception


def test_a_plan_writes_nothing(tmp_path, pairs):
    for words in (("build", pairs), ("synthetic",)):
        planned = run(*words, "--out", tmp_path / "corpus", "--dry-run", "--json")
        assert json.loads(planned.stdout)["settings"]["seed"] == 0
        assert not (tmp_path / "corpus").exists()
    with pytest.raises(CorpusError, match="there is no"):
        raise run("build", tmp_path / "none.jsonl", "--out", tmp_path / "corpus", "--dry-run").exception


def test_options_from_a_file(tmp_path, pairs):
    config = tmp_path / "corpus.yaml"
    config.write_text(f"inputs: [{pairs}]\nout: {tmp_path / 'corpus'}\nmax_cer: 0.3\ntest-share: 0\n", encoding="utf-8")
    planned = json.loads(run("build", "-c", config, "--dry-run", "--json").stdout)["settings"]
    assert (planned["max_cer"], planned["test_share"]) == (0.3, 0.0)


@pytest.mark.expensive
@pytest.mark.parametrize("script", ["build_agp_nko_correction_chatml", "build_nko_synthetic_asr_correction_chatml"])
def test_the_scripts_are_the_commands(script, tmp_path):
    command = [sys.executable, REPOSITORY / "scripts" / f"{script}.py", "--out", tmp_path / "out", "--seed", "3"]
    command += ["--rows", "40"] if "synthetic" in script else []
    if "agp" in script:
        for name, field in (("predictions", "asr_text"), ("references", "reference_text")):
            halves = [{"feat_id": row["id"], field: row[field]} for row in sample_corpus.generate_samples(5, 30)]
            command += [f"--{name}", write_rows(tmp_path / f"test_{name}.jsonl", halves)]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["builder"], manifest["settings"]["seed"]) == (script, 3)


@pytest.mark.expensive
def test_exit_codes_as_the_shell_sees_them(tmp_path, pairs):
    bad = write_rows(tmp_path / "bad.jsonl", [{"hyp": "x"}])
    refused = thunder("build", bad, "--out", tmp_path / "corpus")
    assert refused.returncode == 2 and "bad.jsonl:1: no correction" in refused.stderr
    assert thunder("verify", tmp_path).returncode == 4


@pytest.mark.expensive
def test_a_reader_that_goes_is_no_error(tmp_path, pairs):
    run("build", pairs, "--out", tmp_path / "corpus", "--near-duplicates", "keep")
    command = f"{sys.executable} -m thunder corpus confusions {tmp_path / 'corpus'} --top 500"
    done = subprocess.run(
        ["bash", "-c", f"({command}; echo code $? >&2) | head -1"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=REPOSITORY,
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == "code 0\n"
