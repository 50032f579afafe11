"""Bundles: a complete run is sealed, and each change after the seal is named."""

from __future__ import annotations

from pathlib import Path

import planted_runs
import pytest
from bundle_edits import PREDICTIONS, edit, one_more_edit, only_fault
from conftest import REPOSITORY

from thunder import digest
from thunder.errors import ArtifactError, UsageError
from thunder.runs.bundles import bundle
from thunder.runs.records import run_record


@pytest.fixture
def run(tmp_path):
    return planted_runs.recognizer_run(tmp_path)


def test_a_whole_run(run):
    verdict = bundle.inspect_bundle(run)
    assert (verdict.faults, verdict.kind, verdict.rows, verdict.sealed) == ([], "recogniser", 12, None)
    assert verdict.skipped == ["digests: the run is not sealed"], "what did not run is said"


@pytest.mark.parametrize(
    "name",
    "results.json train.log run.log split.json vocab.json best.safetensors test_predictions.jsonl "
    "test_references.jsonl test_metrics_by_partition.json config.yaml environment.json".split(),
)
def test_each_artifact_is_required(run, name):
    (run / name).unlink()
    verdict = bundle.inspect_bundle(run)
    (fault,) = verdict.faults
    assert name in fault and "missing" in fault
    assert any("not recomputed" in text for text in verdict.skipped)


def test_what_others_call_these_files(run):
    (run / "best.safetensors").rename(run / "best.pt")
    (run / "config.yaml").rename(run / "config.resolved.json")
    (run / "config.resolved.json").write_text("{}")
    assert bundle.bundle_faults(run) == []


def test_weights_that_are_none_are_not_sealed(run):
    (run / "best.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ArtifactError, match="best.safetensors: incomplete"):
        bundle.seal_bundle(run)


def test_a_file_that_changes_while_it_is_sealed_is_found(run, monkeypatch):
    real = bundle.inspect_bundle

    def slow(folder):
        verdict = real(folder)
        (folder / "train.log").write_text("more")
        return verdict

    with monkeypatch.context() as patched:
        patched.setattr(bundle, "inspect_bundle", slow)
        bundle.seal_bundle(run)
    assert "train.log" in only_fault(run)


def test_a_link_is_no_artifact(run, tmp_path):
    (run / "train.log").rename(tmp_path / "elsewhere")
    (run / "train.log").symlink_to(tmp_path / "elsewhere")
    assert "train.log: a symbolic link" in only_fault(run)


def test_no_run_at_all(tmp_path):
    with pytest.raises(UsageError, match="not a run of a known kind"):
        bundle.inspect_bundle(tmp_path)


def test_five_faults_are_named_and_the_rest_counted(run):
    edit(run / PREDICTIONS, lambda rows: [row.update(cer_edits=99) for row in rows])
    with pytest.raises(ArtifactError) as error:
        bundle.refuse_bundle_faults(bundle.inspect_bundle(run))
    assert error.value.message.count("'cer_edits'") == 5 and "7 more" in error.value.message
    assert error.value.exit_code == 4


# sealing


def test_a_sealed_run(run):
    sha256 = bundle.seal_bundle(run)
    verdict = bundle.inspect_bundle(run)
    assert verdict.sealed == sha256 == digest.sha256_file(run / "manifest.json") == bundle.manifest_digest(run)
    assert (verdict.faults, verdict.skipped, verdict.notes) == ([], [], [])
    assert all(not path.stat().st_mode & 0o222 for path in run.iterdir() if not path.name.startswith("."))
    assert bundle.seal_bundle(run) == sha256, "sealing again changes nothing"
    with pytest.raises(UsageError, match="sealed"):
        bundle.refuse_sealed(run)


def test_a_faulty_run_is_not_sealed(run):
    edit(run / PREDICTIONS, one_more_edit)
    with pytest.raises(ArtifactError, match="utterance-0003"):
        bundle.seal_bundle(run)
    assert not (run / "manifest.json").exists() and bundle.manifest_digest(run) is None


def test_a_run_that_goes_on_is_not_sealed(run):
    with run_record.lock_run(run), pytest.raises(UsageError, match="already running"):
        bundle.seal_bundle(run)
    assert not (run / "manifest.json").exists()


def rewrite(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def test_one_flipped_bit_names_file_and_tensor(run):
    bundle.seal_bundle(run)
    data = bytearray((run / "best.safetensors").read_bytes())
    data[-1] ^= 1
    rewrite(run / "best.safetensors", bytes(data))
    assert only_fault(run) == "best.safetensors: changed since it was sealed, in layer.2"


@pytest.mark.parametrize("name", ["train.log", "vocab.json", "best.safetensors"])
def test_what_is_taken_away_or_cut_after_the_seal(run, name):
    bundle.seal_bundle(run)
    data = (run / name).read_bytes()
    rewrite(run / name, data[:-1])
    assert any(f"{name}: {len(data) - 1} bytes" in fault for fault in bundle.bundle_faults(run))
    (run / name).unlink()
    assert any(f"{name}: missing" in fault for fault in bundle.bundle_faults(run))


@pytest.mark.parametrize("at", range(0, 900, 60))
def test_a_changed_byte_in_the_manifest(run, at):
    bundle.seal_bundle(run)
    data = bytearray((run / "manifest.json").read_bytes())
    data[at] = data[at] % 120 + 1
    rewrite(run / "manifest.json", bytes(data))
    assert "manifest.json" in only_fault(run) and bundle.manifest_digest(run) is None
    with pytest.raises(UsageError, match="sealed"):
        bundle.refuse_sealed(run)


def test_what_comes_later_is_said(run):
    bundle.seal_bundle(run)
    (run / "report.html").write_text("x")
    verdict = bundle.inspect_bundle(run)
    assert verdict.faults == [] and "report.html" in verdict.notes[0]


# a corrector's run


@pytest.fixture
def adapter_run(tmp_path):
    return planted_runs.adapter_run(tmp_path)


def test_an_adapter_run(adapter_run):
    verdict = bundle.inspect_bundle(adapter_run)
    assert (verdict.kind, verdict.rows, verdict.faults) == ("adapter", 10, [])
    bundle.seal_bundle(adapter_run)
    assert bundle.bundle_faults(adapter_run) == []


# an evaluation


@pytest.fixture
def evaluation(tmp_path):
    return planted_runs.evaluation_run(tmp_path)


def test_an_evaluation(evaluation):
    verdict = bundle.inspect_bundle(evaluation)
    assert (verdict.kind, verdict.rows, verdict.faults) == ("evaluation", 11, [])
    bundle.seal_bundle(evaluation)
    assert bundle.bundle_faults(evaluation) == []


@pytest.mark.parametrize("file", ["smoke", "synthetic", "real"])
def test_a_real_evaluation(tmp_path, file):
    """What `thunder eval` writes is what is checked here."""
    from thunder.cli.main import main

    rows = REPOSITORY / "tests" / "fixtures" / f"{file}.jsonl"
    out = tmp_path / "e"
    assert main(["eval", "--engine", "oracle", "--rows", str(rows), "--out", str(out)]) == 0
    assert bundle.bundle_faults(out) == []
    bundle.seal_bundle(out)
    assert bundle.inspect_bundle(out).notes == []
