"""The page of a run: what its files say, counted again; what is missing, cut off or contradicts is named."""

from __future__ import annotations

import json

import pytest
from conftest import write_rows
from pages import read_page, rendered

from thunder.errors import UsageError
from thunder.report.pages import run_page
from thunder.report.run_files import RunFiles
from thunder.runs.records.run_record import lock_run
from thunder.text import distance

METRICS = [
    {"time": 1, "step": 0, "valid_loss": 3.0, "best_loss": 3.0, "best_step": 0},
    {"time": 2, "step": 5, "loss": 2.5},
    {"time": 3, "step": 5, "valid_loss": 2.0, "best_loss": 2.0, "best_step": 5},
]
TEXTS = [("ߊߋߌ", "ߊߋߌ", "ߊߋ"), ("ߞߊ ߡߊ", "ߞߊ", "ߞߊ ߡߊ"), ("abc", "abd", "abc")]


def a_run(folder, **more):
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text("model: tiny\nseed: 7\n")
    (folder / "environment.json").write_text(json.dumps({"chip": "M4", "versions": {"mlx": "9"}, "commit": "c" * 40}))
    write_rows(folder / "metrics.jsonl", METRICS)
    (folder / "results.json").write_text(json.dumps({"steps": 5, **more}))
    return folder


@pytest.fixture
def adapter(tmp_path):
    """A LoRA run: reference, recognised text, the base's answer, the adapter's."""
    rows = [
        {"row_id": f"r{n}", "asr_text": asr, "reference_text": wanted, "prediction_before": asr + "x",
         "prediction_after": after, "flags": ["longer"] if n == 1 else []}
        for n, (wanted, after, asr) in enumerate(TEXTS)
    ]  # fmt: skip
    folder = a_run(tmp_path / "adapter")
    write_rows(folder / "test_predictions.jsonl", rows)
    return folder


@pytest.fixture
def recogniser(tmp_path):
    """A recogniser's run, its references in a file of their own."""
    folder = a_run(tmp_path / "recogniser")
    parts = ["stable", "novelty", "stable"]
    rows = [
        {"feat_id": f"f{n}", "asr_text": asr, "partition": part, "script": "nko", "mode": "tar"}
        for n, ((_, _, asr), part) in enumerate(zip(TEXTS, parts, strict=True))
    ]
    write_rows(folder / "test_predictions.jsonl", rows)
    write_rows(folder / "test_references.jsonl",
               [{"feat_id": f"f{n}", "reference_text": wanted} for n, (wanted, *_) in enumerate(TEXTS)])  # fmt: skip
    return folder


def read(folder, gate=None):
    return run_page.read_run_page(RunFiles(folder), gate)


def section(page, name):
    return next(each for each in page.sections if each.name == name)


def test_an_adapter(adapter):
    page = read(adapter)
    assert page.absent == [] and page.title == "adapter"
    assert [(row.outcome, row.before, row.after) for row in page.rows] == [
        ("improved", 1, 0), ("worse", 0, 3), ("worse", 0, 1)
    ]  # fmt: skip
    assert [each.of for each in page.rows[0].lines] == ["reference", "recognized", "base's answer", "correction"]
    assert page.rows[1].reasons == ["longer"]
    wanted, edits = sum(len(each[0]) for each in TEXTS), sum(distance.edit_distance(each[1], each[0]) for each in TEXTS)
    assert page.cards[0][0].endswith(f"→ {edits / wanted:.4f}")
    assert ("2.0000", "best validation loss, at step 5") in page.cards and ("0", "restarts") in page.cards
    assert dict(page.facts).items() >= {"model": "tiny", "seed": "7", "chip": "M4", "commit": "c" * 12}.items()
    assert {"loss", "partition", "base", "confusions", "flags"} <= {each.name for each in page.sections}


def test_a_recogniser(recogniser):
    page = read(recogniser, gate=0.3)
    assert [(row.outcome, row.before, row.after) for row in page.rows] == [
        ("with errors", 1, None), ("exact", 0, None), ("exact", 0, None)
    ]  # fmt: skip
    assert page.absent == ["test_metrics_by_partition.json is missing: no CER by the partition of each character"]
    part = section(page, "partition")
    assert [line[:4] for line in part.table.lines] == [
        ["stable (2 rows)", "6", "1", f"{1 / 6:.4f}"], ["novelty (1 rows)", "5", "0", "0.0000"]
    ]  # fmt: skip
    assert "CER 0.3" in part.notes[-1]
    assert read_page(rendered(page)).rows[0][5:7] == [1, None]


def counted(edits, chars):
    return {"cer_edits": edits, "reference_chars": chars, "cer": edits / chars if chars else 0.0}


def by_partition(folder, **more):
    found = {"partitions": {"stable": counted(1, 6), "boundary": counted(0, 0), "novelty": counted(0, 5)}, **more}
    (folder / "test_metrics_by_partition.json").write_text(json.dumps(found | {"total": counted(1, 11)}))


def test_what_the_runs_own_file_knows_of_each_character(recogniser):
    by_partition(recogniser, characters={"uncertain": counted(1, 4), "stable": counted(0, 7)}, alignment="baseline")
    page = read(recogniser)
    assert page.absent == []
    part = section(page, "characters")
    assert [line[:4] for line in part.table.lines] == [
        ["stable", "7", "0", "0.0000"], ["uncertain", "4", "1", "0.2500"]
    ]  # fmt: skip
    assert "Alignment: baseline." in part.notes[0]


def test_what_the_runs_own_files_count_otherwise_is_named(recogniser):
    by_partition(recogniser)
    rows = [json.loads(line) for line in (recogniser / "test_predictions.jsonl").read_text().splitlines()]
    write_rows(recogniser / "test_predictions.jsonl", [rows[0] | {"asr_text": ""}, *rows[1:]])
    (recogniser / "results.json").write_text(json.dumps({"test": {"cer": 1 / 11}}))
    absent = read(recogniser).absent
    assert absent[0].startswith("results.json has cer 0.0909, but the rows give 0.2727")
    assert absent[1].startswith("test_metrics_by_partition.json says CER 0.1667 of stable, but the rows give 0.5000")


@pytest.mark.parametrize("lost, said", [
    ("metrics.jsonl", "metrics.jsonl is missing: no loss"),
    ("config.yaml", "config.yaml is missing: its options are not shown"),
    ("results.json", "results.json is missing: the run did not come to its end"),
    ("environment.json", "environment.json is missing: the machine is not named"),
    ("test_predictions.jsonl", "test_predictions.jsonl is missing: no CER, no confusions and no rows"),
])  # fmt: skip
def test_what_is_missing_is_named(adapter, lost, said):
    (adapter / lost).unlink()
    page = read(adapter)
    assert len(page.absent) == 1 and said in page.absent[0]
    read_page(rendered(page))


@pytest.mark.parametrize("name, text, said", [
    ("metrics.jsonl", '{"step": 1, "loss": 2.0}\n{"step"', "metrics.jsonl:2: looks cut off"),
    ("metrics.jsonl", "[]\n", "metrics.jsonl:1: not an object"),
    ("results.json", "{", "results.json is not JSON"), ("results.json", "[]", "results.json is not a JSON object"),
    ("config.yaml", "a: [", "its options are not shown"),
    ("test_predictions.jsonl", '{"prediction_after": 3}\n', "1 of 1 rows lack a text"),
    ("results.json", '{"test": {"cer_after": 0.5}}', "results.json has test.cer_after 0.5000, but the rows give"),
])  # fmt: skip
def test_what_is_damaged_is_named(adapter, name, text, said):
    (adapter / name).write_text(text)
    page = read(adapter)
    assert said in " | ".join(page.absent)
    read_page(rendered(page))


def test_why_a_run_ended_is_told(adapter):
    (adapter / "results.json").unlink()
    (adapter / "end.json").write_text(json.dumps({"state": "failed", "message": "the cable\nmore"}))
    assert read(adapter).absent[0].endswith("(failed: the cable)")


def test_a_run_that_goes_on_is_not_called_ended(adapter):
    (adapter / "results.json").unlink()
    with lock_run(adapter):
        assert read(adapter).absent == ["results.json is missing: the run is going on"]


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UsageError, match="no run"):
        read(tmp_path)


def test_restarts_are_told(adapter):
    write_rows(adapter / "incidents.jsonl", [{"time": 2.5, "kind": "hang", "step": 5, "checkpoint": 0}])
    page = read(adapter)
    assert ("1", "restart") in page.cards
    assert ["restart 1", "5", "hang; went on from step 0"] in section(page, "loss").table.lines
