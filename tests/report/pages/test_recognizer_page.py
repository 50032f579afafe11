"""The test rows of a recognizer's run on its page: rates by partition, and counts that differ from its files."""

from __future__ import annotations

import json

import pytest
from conftest import write_rows
from pages import read_page, rendered
from report_runs import TEXTS, a_run, read, section


def recognizer_run_folder(tmp_path):
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


recogniser = pytest.fixture(recognizer_run_folder)


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
