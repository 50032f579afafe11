"""Runs that version 0.1.0 left are continued to the same weights, verified, listed and reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from serialized_keys import keys_of_folder, missing_keys
from version_artifacts import ARTIFACTS, EXPECTED, HERE, RENAMED, TINY_HEAD, assert_same_weights, expected

from thunder.acoustic.head import ctc_head
from thunder.cli.main import main
from thunder.launcher.rank_jobs.rank_setup import RankSetup
from thunder.launcher.rank_jobs.recognizer_job import train_recognizer
from thunder.parallel.world import World
from thunder.runs.records.run_record import RunRecord
from thunder.training.loop_settings import RuntimeOverrides
from thunder.training.training_events import NO_CALLBACKS

pytestmark = pytest.mark.expensive


@pytest.fixture
def tiny_head(monkeypatch):
    """The artifacts are of a head that is smaller than `small`, or they would not be small."""
    small = ctc_head.HEAD_SIZES["small"]
    monkeypatch.setitem(ctc_head.HEAD_SIZES, "small", type(small)(**TINY_HEAD, activation=small.activation))


def assert_same_keys(folder: Path, name: str) -> None:
    """A run that today's code finished has every file, with every key, that 0.1.0 left in it."""
    now, gone = keys_of_folder(folder), {}
    for file, keys in expected("resumed_runs.json")[name].items():
        if file not in now:
            gone[file] = "no such file"
        elif lost := missing_keys(keys, now[file], RENAMED):
            gone[file] = lost
    assert not gone


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_a_lora_run_of_two_ranks_goes_on_to_the_same_adapter(workspace):
    """It was interrupted at step 32 of 80, with dropout, pieces of 4 words and options that have other names today."""
    folder = workspace / "runs" / "corrector-interrupted"
    assert main(["resume", folder.name]) == 0
    assert_same_weights(folder / "adapters" / "adapters.safetensors", "corrector-resumed.safetensors")
    assert_same_keys(folder, folder.name)
    assert results(folder)["test"]["cer_after"] == pytest.approx(0.2655367231638418, abs=0.02)
    assert (folder.parent / "latest").resolve() == folder
    assert main(["ckpt", "verify", folder.name]) == 0
    assert main(["bundle", "seal", folder.name]) == 0


@pytest.mark.parametrize("option", ["--window=5", "--lora-rank=2", "--seed=1", "--no-unsafe-shape", "--iters=90"])
def test_a_run_does_not_go_on_with_other_options(option, workspace, capsys):
    assert main(["train", "--resume", "corrector-interrupted", option, "--dry-run"]) == 2
    assert "was started with other options" in capsys.readouterr().err


def test_a_run_goes_on_with_other_circumstances(workspace):
    circumstances = ["--max-wraps=9", "--stall-after=60", "--prefix-cache=off", "--balance=auto"]
    assert main(["train", "--resume", "corrector-interrupted", *circumstances, "--dry-run"]) == 0


def test_a_base_in_pretraining_goes_on_to_the_same_weights(workspace):
    folder = workspace / "runs" / "base-interrupted"
    assert main(["resume", folder.name]) == 0
    assert_same_weights(folder / "model" / "model.safetensors", "base-resumed.safetensors")
    assert_same_keys(folder, folder.name)
    assert main(["bundle", "verify", folder.name]) == 0


def test_a_recognizer_goes_on_to_the_same_head(workspace, tiny_head):
    """In this process, since a rank of its own would know nothing of the tiny head."""
    folder = workspace / "runs" / "recognizer-interrupted"
    assert main(["resume", folder.name, "--dry-run"]) == 0
    overrides = RuntimeOverrides(planned_ranks=1)
    train_recognizer(RankSetup(folder, RunRecord(folder), World(), lambda: False, overrides, NO_CALLBACKS))
    assert_same_weights(folder / "best.safetensors", "recognizer-resumed.safetensors")
    assert_same_keys(folder, folder.name)
    assert results(folder)["test"]["cer"] == pytest.approx(0.14285714285714285)
    assert main(["bundle", "verify", folder.name]) == 0


def test_a_recognizer_hears_as_it_did(workspace, tiny_head, capsys):
    recordings = [f"{HERE}/recordings/u0{number}.flac" for number in range(4)]
    assert main(["asr", "transcribe", "--run", "modes.traj", *recordings, "--out", "today.jsonl"]) == 0
    heard, before = [
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in (Path("today.jsonl"), Path(HERE) / "transcripts.jsonl")
    ]
    assert [row["asr_text"] for row in heard] == [row["asr_text"] for row in before] == ["mu", "ko da", "ko", "io bi"]
    assert [row["partition"] for row in heard] == [row["partition"] for row in before]
    words = ["--decoder", "beam", "--ngram", f"{HERE}/tones.arpa", "--out", "today", "--json"]
    assert main(["asr", "eval", "--run", "modes.traj", "--features", f"{HERE}/features", "--part", "test", *words]) == 0
    capsys.readouterr()
    for name in ("test_predictions.jsonl", "test_references.jsonl"):
        now, old = (
            [json.loads(line) for line in (Path(folder) / name).read_text(encoding="utf-8").splitlines()]
            for folder in ("today", f"{HERE}/speech_evaluation")
        )
        assert [row.get("asr_text", row["reference_text"]) for row in now] == [
            row.get("asr_text", row["reference_text"]) for row in old
        ]


def test_the_audit_of_a_sealed_recognizer_still_counts_and_can_be_made_again(workspace, tiny_head):
    folder = workspace / "runs" / "recognizer"
    assert main(["bundle", "verify", "recognizer"]) == 0
    assert main(["audit", "recognizer"]) == 2  # what is sealed with its audit keeps it
    before = json.loads((folder / "audit.json").read_text())
    (folder / "manifest.json").unlink()
    # the head names the features' folder on the machine that trained it
    assert main(["audit", "recognizer", "--features", f"{HERE}/features"]) == 0
    now = json.loads((folder / "audit.json").read_text())
    assert now["bound"] == before["bound"]
    assert {name: stage["verdict"] for name, stage in now["stages"].items()} == {"eval": "pass", "pipeline": "pass"}


@pytest.mark.parametrize("name", ["corrector", "recognizer", "modes.plain", "modes.traj"])
def test_a_sealed_bundle_stays_sealed(name, workspace, capsys):
    manifest = workspace / "runs" / name / "manifest.json"
    before = manifest.read_bytes()
    assert main(["bundle", "verify", name]) == 0
    assert main(["bundle", "seal", name]) == 0 and manifest.read_bytes() == before
    assert main(["resume", name]) == 2  # nothing may be written into it
    (workspace / "runs" / name / "results.json").chmod(0o644)
    (workspace / "runs" / name / "results.json").write_text("{}")
    assert main(["bundle", "verify", name]) == 4


@pytest.mark.parametrize("name", ["corrector", "corrector-interrupted", "recognizer", "recognizer-interrupted"])
def test_a_run_is_reported(name, workspace):
    assert main(["report", name, "--out", "page.html"]) == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert name in page and "damaged" not in page.partition("<main")[2][:20000]


def test_an_adapter_folder_is_taken_as_the_start_and_by_its_weights_file(workspace):
    shutil.copytree("runs/corrector/adapters", "adapter")
    for given in ("adapter", "adapter/adapters.safetensors", "runs/corrector/adapters/best"):
        assert main(["train", "--dry-run", "--num-layers", "1", "--resume-adapter-file", given]) == 0
    rows = ["eval", "--rows", f"{HERE}/few_rows.jsonl", "--dry-run"]
    assert main([*rows, "--adapter-path", "adapter"]) == 0
    assert main([*rows, "--adapter", "adapter/adapters.safetensors"]) == 0


def test_the_index_of_runs_is_read_or_made_anew(workspace, capsys):
    shutil.copy("runs/registry.sqlite", "runs/.registry.sqlite")
    assert main(["runs", "list", "--json"]) == 0
    listed = {line["name"]: line for line in json.loads(capsys.readouterr().out)}
    assert {name: line["state"] for name, line in listed.items()} == {
        "corrector": "done", "corrector-interrupted": "stopped", "recognizer": "done", "modes.plain": "done",
        "recognizer-interrupted": "stopped", "base-interrupted": "stopped", "modes.traj": "done",
    }  # fmt: skip
    assert listed["corrector"]["folder"] == str(workspace / "runs" / "corrector")


def test_no_file_names_a_folder_of_a_machine():
    for path in (*ARTIFACTS.rglob("*.json*"), *ARTIFACTS.rglob("*.yaml"), *ARTIFACTS.rglob("*.log")):
        text = path.read_text(encoding="utf-8")
        assert "/home/" not in text and "/tmp/" not in text and "/Users/" not in text, path
    assert EXPECTED.is_dir()
