"""Checks of a bundle: each planted fault of a run, an adapter run or an evaluation is named."""

from __future__ import annotations

import planted_runs
import pytest
from bundle_edits import PARTS, PREDICTIONS, REFERENCES, RESULTS, edit, one_more_edit, only_fault
from planted_runs import read_jsonl

from thunder.runs.bundles import bundle


@pytest.fixture
def run(tmp_path):
    return planted_runs.recognizer_run(tmp_path)


def twin(rows):
    rows[5]["feat_id"] = rows[4]["feat_id"]


def swapped(rows):
    rows[2], rows[3] = rows[3], rows[2]


def stranger(rows):
    rows[0]["feat_id"] = "somebody else"


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


def test_an_unknown_partition_is_counted_apart(run):
    edit(run / PREDICTIONS, lambda rows: rows[0].update(partition="weird"))
    faults = bundle.bundle_faults(run)
    assert any("'unknown' is missing, but 1 rows" in fault for fault in faults), faults


@pytest.mark.parametrize("name", ["config.yaml", "environment.json"])
def test_what_says_how_a_run_came_about_can_be_read(run, name):
    (run / name).write_bytes(b"a: [\xff")
    assert name in only_fault(run)


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


@pytest.fixture
def adapter_run(tmp_path):
    return planted_runs.adapter_run(tmp_path)


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


@pytest.fixture
def evaluation(tmp_path):
    return planted_runs.evaluation_run(tmp_path)


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
