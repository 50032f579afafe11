"""Bundles: every planted fault is named, and sealing is all or nothing wherever it is interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import planted_runs
import pytest
from conftest import REPOSITORY
from planted_runs import read_jsonl, write_json, write_jsonl

from thunder import digest
from thunder.errors import ArtifactError, UsageError
from thunder.runs.bundles import bundle
from thunder.runs.records import run_record


@pytest.fixture
def run(tmp_path):
    return planted_runs.recognizer_run(tmp_path)


def edit(path: Path, change) -> None:
    """Read, change in place, write again: JSON or JSON lines."""
    lines = path.suffix == ".jsonl"
    content = read_jsonl(path) if lines else json.loads(path.read_text())
    change(content)
    (write_jsonl if lines else write_json)(path, content)


def only_fault(folder: Path) -> str:
    (fault,) = bundle.bundle_faults(folder)
    return fault


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


def one_more_edit(rows):
    rows[3]["cer_edits"] += 1


def twin(rows):
    rows[5]["feat_id"] = rows[4]["feat_id"]


def swapped(rows):
    rows[2], rows[3] = rows[3], rows[2]


def stranger(rows):
    rows[0]["feat_id"] = "somebody else"


PREDICTIONS, REFERENCES, RESULTS = "test_predictions.jsonl", "test_references.jsonl", "results.json"
PARTS = "test_metrics_by_partition.json"


@pytest.mark.parametrize(
    "name, change, words",
    [
        (PREDICTIONS, one_more_edit, ["'utterance-0003'", "'cer_edits'", "the recomputed value is"]),
        (PREDICTIONS, lambda rows: rows[3].update(reference_chars=1), ["'utterance-0003'", "'reference_chars'"]),
        (PREDICTIONS, lambda rows: rows[3].update(asr_text=5), ["'utterance-0003'", "'asr_text'"]),
        (PREDICTIONS, lambda rows: rows[3].pop("partition"), ["'utterance-0003'", "'partition'"]),
        (PREDICTIONS, lambda rows: rows[3].update(reference_text="ߊ"), ["'utterance-0003'", "differs between the two"]),
        (PREDICTIONS, lambda rows: rows[3]["trajectory_scalars"].update(novelty=float("nan")), ["'novelty' is nan"]),
        (PREDICTIONS, twin, ["'utterance-0004'", "already used at line 5"]),
        (PREDICTIONS, swapped, ["not in the same order", "'utterance-0003'"]),
        (PREDICTIONS, lambda rows: rows.pop(), ["11 rows", "12"]),
        (REFERENCES, lambda rows: rows.pop(), ["12 rows", "11"]),
        (PREDICTIONS, stranger, ["'somebody else'"]),
        (RESULTS, lambda said: said["test"].update(cer=said["test"]["cer"] + 2e-9), ["'cer'", "recomputed"]),
        (RESULTS, lambda said: said["test"].pop("cer"), ["'cer' is missing"]),
        (RESULTS, lambda said: said["test"].update(rows=13), ["'rows' is 13"]),
        (RESULTS, lambda said: said["test"].update(cer=None), ["'cer' is None"]),
        (RESULTS, lambda said: said["test"].update(cer=True), ["'cer' is True"]),
        (RESULTS, lambda said: said["test"].update(wer=0.5), ["'wer' is 0.5"]),
        (RESULTS, lambda said: said.update(best_valid_loss=0.001), ["'best_valid_loss'"]),
        (PARTS, lambda said: said["partitions"]["novelty"].update(cer_edits=99), ["'novelty'", "99"]),
        (PARTS, lambda said: said["partitions"].pop("novelty"), ["partitions sum to"]),
        (PARTS, lambda said: said["partitions"]["stable"].update(cer=0.5), ["'stable'", "'cer' is 0.5"]),
        (PARTS, lambda said: said.update(characters={"stable": {"cer_edits": 1, "reference_chars": 2}}),
         ["'characters'", "sum to 1 edits in 2"]),
        (RESULTS, lambda said: said.update(checkpoint_sha256="0" * 64), ["best.safetensors", "not the tested weights"]),
        (RESULTS, lambda said: said["test"].update(exact=12), ["'exact' is 12"]),
        ("split.json", lambda said: said["ids"]["test"].pop(), ["'utterance-0011'", "split.json"]),
        ("split.json", lambda said: said["ids"]["train"].pop(), ["the ids of train", "digest"]),
        ("split.json", lambda said: said.pop("ids"), ["has no list of ids"]),
    ],
)  # fmt: skip
def test_a_planted_fault_is_named(run, name, change, words):
    edit(run / name, change)
    faults = bundle.bundle_faults(run)
    assert any(all(word in fault for word in words) for fault in faults), faults


def test_a_row_too_many_is_missing_from_the_split(run):
    def one_more(said):
        said["ids"]["test"].append("forgotten")
        said["sha256"]["test"] = planted_runs.sha256_of_value(said["ids"]["test"])

    edit(run / "split.json", one_more)
    assert "'forgotten'" in only_fault(run)
    with (run / "config.yaml").open("a") as stream:
        stream.write("test_rows: 12\n")
    assert bundle.bundle_faults(run) == [], "a run that was asked to test fewer"


def test_what_was_left_out_has_to_be_said(run):
    def two_more(said):
        said["ids"]["test"] += ["too long", "without text"]
        said["sha256"]["test"] = planted_runs.sha256_of_value(said["ids"]["test"])

    edit(run / "split.json", two_more)
    assert "12 rows, the split has 14 to test; missing is 'too long' (and 1 more)" in only_fault(run)
    left_out = {"are too long": {"rows": 1, "ids": ["too long"]}, "have no text": {"rows": 1, "ids": ["without text"]}}
    edit(run / RESULTS, lambda said: said.update(data={"test_rows": 12, "left_out": left_out}))
    assert bundle.bundle_faults(run) == []
    left_out.pop("have no text")
    edit(run / RESULTS, lambda said: said.update(data={"test_rows": 12, "left_out": left_out}))
    assert "uses 12 of 14 test rows in split.json, but 'left_out' counts 1" in only_fault(run)


def test_a_rate_to_the_last_digit_but_a_few(run):
    edit(run / RESULTS, lambda said: said["test"].update(cer=said["test"]["cer"] + 5e-10))
    assert bundle.bundle_faults(run) == []


def test_marks_in_another_order_are_no_edits(run):
    """U+07F2 and a tone mark after one letter: the same text in two orders."""

    def change(rows):
        rows[0] |= {"asr_text": "ߊ߲߫", "reference_text": "ߊ߲߫", "cer_edits": 0, "reference_chars": 3}

    edit(run / PREDICTIONS, change)
    edit(run / REFERENCES, lambda rows: rows[0].update(reference_text="ߊ߲߫"))
    assert not [fault for fault in bundle.bundle_faults(run) if "cer_edits" in fault and "utterance-0000" in fault]


def test_an_unknown_partition_is_counted_apart(run):
    edit(run / PREDICTIONS, lambda rows: rows[0].update(partition="weird"))
    faults = bundle.bundle_faults(run)
    assert any("'unknown' is missing, but 1 rows" in fault for fault in faults), faults


@pytest.mark.parametrize("text", [b"{", b"[1]\n", b"\xff\n", b'{"feat_id": "a"}', b""])
def test_whatever_stands_in_the_rows_it_is_a_fault(run, text):
    (run / PREDICTIONS).write_bytes(text)
    assert bundle.bundle_faults(run)


@pytest.mark.parametrize("name", ["config.yaml", "environment.json"])
def test_what_says_how_a_run_came_about_can_be_read(run, name):
    (run / name).write_bytes(b"a: [\xff")
    assert name in only_fault(run)


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


def test_bins_of_lengths_are_counted_again(run):
    rows = read_jsonl(run / PREDICTIONS)
    counted = planted_runs.totals(rows)  # none is longer than 20
    by_partition = run / "test_metrics_by_partition.json"
    edit(by_partition, lambda said: said.update(lengths={"to 20": counted}))
    assert bundle.bundle_faults(run) == []
    edit(by_partition, lambda said: said["lengths"]["to 20"].update(cer_edits=0))
    assert "'to 20': 'cer_edits' is 0" in only_fault(run)
    edit(by_partition, lambda said: said.update(lengths={}))
    assert all(
        "'to 20'" in fault and "missing" in fault for fault in bundle.bundle_faults(run)
    ) and bundle.bundle_faults(run)


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


@pytest.mark.parametrize(
    "name, change, words",
    [
        (PREDICTIONS, lambda rows: rows[2].update(edits_after=77), ["'row-2'", "'edits_after' is 77"]),
        (PREDICTIONS, lambda rows: rows[2].pop("prediction_before"), ["'row-2'", "'prediction_before'"]),
        (PREDICTIONS, lambda rows: rows[2].update(row_id="row-1"), ["'row-1'", "already used at line 2"]),
        (PREDICTIONS, lambda rows: rows.pop(), ["'rows' is 10"]),
        (RESULTS, lambda said: said["test"].update(cer_after=0.0), ["'cer_after' is 0.0"]),
        (RESULTS, lambda said: said["test"].update(worse=3), ["'worse' is 3"]),
        (RESULTS, lambda said: said["test"].pop("improved"), ["'improved' is missing"]),
    ],
)
def test_a_planted_fault_in_an_adapter_run(adapter_run, name, change, words):
    edit(adapter_run / name, change)
    faults = bundle.bundle_faults(adapter_run)
    assert any(all(word in fault for word in words) for fault in faults), faults


def test_a_test_without_its_rows_is_a_fault(adapter_run):
    (adapter_run / PREDICTIONS).unlink()
    assert "no test_predictions.jsonl" in only_fault(adapter_run)
    edit(adapter_run / RESULTS, lambda said: said.pop("test"))
    assert bundle.bundle_faults(adapter_run) == [], "a run that was asked for no test"


# an evaluation


@pytest.fixture
def evaluation(tmp_path):
    return planted_runs.evaluation_run(tmp_path)


def test_an_evaluation(evaluation):
    verdict = bundle.inspect_bundle(evaluation)
    assert (verdict.kind, verdict.rows, verdict.faults) == ("evaluation", 11, [])
    bundle.seal_bundle(evaluation)
    assert bundle.bundle_faults(evaluation) == []


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("predictions.jsonl", lambda rows: rows[4].update(accepted=False), ["'row-4'", "'after' is"]),
        ("predictions.jsonl", lambda rows: rows[4].update(accepted=1), ["'row-4'", "'accepted'"]),
        ("predictions.jsonl", lambda rows: rows[4]["edits_before"].update(codepoint=0), ["'row-4'", "'before' is 0"]),
        ("predictions.jsonl", lambda rows: rows[4].update(proposal="ߊ"), ["'row-4'", "'proposal' is"]),
        ("predictions.jsonl", lambda rows: rows[4].update(edits_before=3), ["'row-4'", "'edits_before'"]),
        ("predictions.jsonl", lambda rows: rows[4].update(row_id="row-3"), ["'row-3'", "already used at line 4"]),
        (
            "predictions.jsonl",
            lambda rows: rows[4].update(x=1),
            ["predictions.jsonl: its SHA-256 is not the one in results.json"],
        ),
        (RESULTS, lambda said: said.update(cer_after=0.01), ["'cer_after' is 0.01"]),
        (RESULTS, lambda said: said.update(rows=11), ["'rows' is 11"]),
        (RESULTS, lambda said: said["empty_reference"].update(rows=0), ["'empty_reference'", "'rows' is 0"]),
        (RESULTS, lambda said: said.pop("edits_after"), ["'edits_after' is missing"]),
    ],
)
def test_a_planted_fault_in_an_evaluation(evaluation, name, change, words):
    edit(evaluation / name, change)
    faults = bundle.bundle_faults(evaluation)
    assert any(all(word in fault for word in words) for fault in faults), faults


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
