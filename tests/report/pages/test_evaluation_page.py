"""The page of an evaluation: nothing in a row can break it, and what it shows is what the rows say."""

from __future__ import annotations

import json

import pytest
from conftest import write_rows
from pages import read_page, rendered

from thunder.errors import ArtifactError
from thunder.evaluation import cases, evaluate
from thunder.evaluation.engines import FileEngine, IdentityEngine, Proposal
from thunder.evaluation.evaluation_settings import EvalSettings
from thunder.evaluation.metrics import summary
from thunder.evaluation.metrics.judge import judge_proposal
from thunder.evaluation.metrics.summary import BootstrapSettings
from thunder.report.pages import evaluation_page
from thunder.report.run_files import RunFiles


def row(text, proposal, reference, row_id="r", **more):
    case = cases.Case(0, row_id, text, reference, (), script=cases.script_of_letters(reference))
    return judge_proposal(case, Proposal(proposal, **more), Proposal(text))


def page(rows):
    results = summary.summarize_rows(rows, BootstrapSettings(resamples=100)) | {
        "ground": {"engine": "x", "rows_sha256": "f" * 64}
    }
    return read_page(rendered(evaluation_page.build_evaluation_page(rows, results)))


def test_it_stands_alone_and_n_ko_runs_from_right_to_left():
    got = page([row("ߊߋ", "ߊߌ", "ߊߌ"), row("abc", "abd", "abc"), row("ߊb", "ߊ", "ߊb")])
    assert [each[10] for each in got.rows] == ["rtl", "ltr", "auto"]
    assert [each[2] for each in got.rows] == ["improved", "worse", "worse"]
    assert [name for name, _ in got.rows[0][11]] == ["reference", "recognized", "base's answer", "correction"]


def test_no_rows_no_better_no_worse():
    assert "There are no rows to show." in page([]).text
    assert page([row("a", "a", "")]).of("h1") == ["1 row, none with a reference"]


def test_a_refused_proposal_is_named_so_and_not_counted():
    rows = [row("abd", "xyz", "abc", accepted=False)]
    got = page(rows)
    [shown] = got.rows
    assert (shown[2], shown[5], shown[6], shown[8]) == ("unchanged", 1, 1, "reject")
    assert shown[11][-1][0] == "correction, not taken"
    assert "x" not in json.dumps(got.specs["confusions"], ensure_ascii=False).split('"name"')[1][:12]


def test_groups_stand_in_their_own_order_though_json_has_sorted_them():
    rows = [row("ߊ" * n + "ߋ", "ߊ" * n, "ߊ" * n) for n in (10, 60, 300)]
    results = json.loads(json.dumps(summary.summarize_rows(rows, BootstrapSettings(resamples=100)), sort_keys=True))
    [table] = [
        each.table for each in evaluation_page.build_evaluation_page(rows, results).sections if each.name == "length"
    ]
    assert [line[0] for line in table.lines] == ["to 20", "over 50 to 100", "over 200"]


@pytest.fixture
def folder(tmp_path):
    """A finished evaluation of some proposals."""
    texts = [("ߊߋߌ", "ߊߋߌ߬", "ߊߋߌ߬"), ("ߞߊ", "ߞߋ", "ߞߊ"), ("ߡߊ", "ߡߊ", "ߡߊ")]
    rows = [{"id": f"p{n}", "before": one, "after": ref} for n, (one, _, ref) in enumerate(texts)]
    read = cases.read_cases(write_rows(tmp_path / "rows.jsonl", rows))
    said = [{"id": f"p{n}", "proposal": each} for n, (_, each, _) in enumerate(texts)]
    engine = FileEngine(write_rows(tmp_path / "said.jsonl", said), read.all_ids)
    evaluate.run_evaluation(read, EvalSettings(rows="rows.jsonl", resamples=100), engine, None, tmp_path / "found")
    return tmp_path / "found"


def test_from_a_folder(folder):
    found = evaluation_page.read_evaluation_page(RunFiles(folder))
    assert found.absent == [] and [each.outcome for each in found.rows] == ["improved", "worse", "unchanged"]
    assert found.title == "CER 0.1250 → 0.1250 on 3 rows"
    assert {each.name for each in found.sections} == {
        "partition", "rates", "confusions", "script", "length", "input_cer", "flags"
    }  # fmt: skip


def test_rows_that_were_changed_are_named(folder):
    path = folder / evaluate.PREDICTIONS
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + '\n{"row_id": 1}\n[]\n{"inp')
    absent = " | ".join(evaluation_page.read_evaluation_page(RunFiles(folder)).absent)
    for words in ("jsonl:5: looks cut off", "jsonl:4: not an object", "1 of 3 rows lack fields"):
        assert words in absent
    assert "says rows 3, but predictions.jsonl adds up to 2" in absent


def test_without_results_there_is_no_page(folder):
    (folder / "results.json").unlink()
    with pytest.raises(ArtifactError, match="no results of an evaluation"):
        evaluation_page.read_evaluation_page(RunFiles(folder))


def test_the_evaluation_writes_the_page_it_is_given(tmp_path):
    read = cases.read_cases(write_rows(tmp_path / "rows.jsonl", [{"id": "1", "before": "ߊ", "after": "ߋ"}]))
    settings = EvalSettings(rows="rows.jsonl", resamples=100)
    evaluate.run_evaluation(
        read, settings, IdentityEngine(), None, tmp_path / "f", page=lambda *found: f"{len(found[0])} {len(found)}"
    )
    assert (tmp_path / "f" / "report.html").read_text() == "1 2"
