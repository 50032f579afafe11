"""Rows of a test: as the corpora read them, with counts that add up."""

import json
from pathlib import Path

import pytest
from recognized_rows import heard

from thunder.acoustic.inference import result_files
from thunder.corpora.builders.real_corpus import build_agp_nko_correction_chatml
from thunder.corpora.corpus_settings import BuildSettings
from thunder.corpora.rows.correction_rows import FIELDS, PARTITIONS, CorrectionReader
from thunder.text import distance


@pytest.fixture(scope="module")
def toy():
    return heard("trajectory+ttt")


def test_rows_have_every_field_and_counts_that_hold(toy):
    made, rows = toy
    for row in rows:
        assert FIELDS.keys() <= row.keys()
        assert row["cer_edits"] == distance.edit_distance(row["asr_text"], row["reference_text"])
        assert row["reference_chars"] == len(row["reference_text"]) and row["partition"] in PARTITIONS
        assert len(row["trajectory_scalars"]) == 7 and row["ttt_drift"] > 0
    assert {row["mode"] for row in rows} == {"trajectory+ttt"}
    assert any(row["asr_text"] for row in rows)


def test_counts_by_length_are_those_of_the_rows(toy):
    found, rows = result_files.partition_metrics(toy[1]), toy[1]
    assert found["lengths"].keys() <= {"to 20", "over 20 to 50", "over 50 to 100", "over 100 to 200", "over 200"}
    short = [row for row in rows if len(row["reference_text"]) <= 20]
    assert found["lengths"]["to 20"]["rows"] == len(short) > 0
    assert found["lengths"]["to 20"]["cer_edits"] == sum(row["cer_edits"] for row in short)
    assert sum(one["rows"] for one in found["lengths"].values()) == len(rows)


def test_counts_by_partition_add_up(toy):
    found = result_files.partition_metrics(toy[1])
    for key in ("rows", "cer_edits", "reference_chars"):
        assert sum(part[key] for part in found["partitions"].values()) == found["total"][key]
    characters = found["characters"].values()
    assert sum(part["cer_edits"] for part in characters) == found["total"]["cer_edits"]
    assert sum(part["reference_chars"] for part in characters) == found["total"]["reference_chars"]
    summary = result_files.summarize_results(toy[1])
    assert summary["cer"] == found["total"]["cer"] == summary["cer_edits"] / summary["reference_chars"]
    assert summary["rows"] == len(toy[1]) and summary["ttt"]["drift_mean"] > 0
    assert result_files.summarize_results([])["cer"] == 0


def test_the_correction_corpus_takes_them_as_they_are(toy, tmp_path: Path):
    result_files.write_results(tmp_path, toy[1])
    reader = CorrectionReader(run_id=None)
    joined = list(reader.joined(tmp_path / result_files.PREDICTIONS, tmp_path / result_files.REFERENCES))
    reader.finish()
    assert [row["feat_id"] for row in joined] == [row["feat_id"] for row in toy[1]]
    for row, ours in zip(joined, toy[1], strict=True):
        assert {
            key: row[key] for key in ("asr_text", "reference_text", "cer_edits", "partition", "run_id", "mode")
        } == {key: ours[key] for key in ("asr_text", "reference_text", "cer_edits", "partition", "run_id", "mode")}
        assert row["evidence_class"] == "real_same_provenance" and row["source_split"] == "test"
    corpus = tmp_path / "corpus"
    build_agp_nko_correction_chatml(
        BuildSettings(
            predictions=str(tmp_path / result_files.PREDICTIONS),
            references=str(tmp_path / result_files.REFERENCES),
            out=str(corpus),
        )
    )
    assert (corpus / "manifest.json").is_file()
    references = [json.loads(line) for line in (tmp_path / result_files.REFERENCES).read_text().splitlines()]
    assert [row["feat_id"] for row in references] == [row["feat_id"] for row in toy[1]]


def test_synthetic_speech_says_so(toy):
    made, _ = toy
    example = made.dataset.test[0]
    from dataclasses import replace

    row = result_files.correction_row(
        replace(example, synthetic=True), {}, part="test", script="nko", mode="x", run_id="r"
    )
    assert row["evidence_class"] == "synthetic"
    assert "evidence_class" not in result_files.correction_row(
        example, {}, part="test", script="nko", mode="x", run_id="r"
    )


def test_the_run_log_has_a_line_for_each_report():
    text = result_files.format_run_log([{"time": 1.0, "step": 3, "loss": 0.5}], {"mode": "tar"})
    assert text == "mode: tar\nstep 3  loss 0.5\n"
