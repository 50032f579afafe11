"""What judged rows add up to: published counts, error rates by a table of our own, groups that add up to the whole."""

from __future__ import annotations

import random

import jiwer
import pytest
from conftest import REPOSITORY

from thunder.evaluation import cases
from thunder.evaluation.engines import FileEngine, IdentityEngine, OracleEngine, Proposal
from thunder.evaluation.metrics import summary
from thunder.evaluation.metrics.judge import judge_proposal
from thunder.evaluation.metrics.summary import BootstrapSettings
from thunder.text.normalize import normalize_text

FIXTURES = REPOSITORY / "tests" / "fixtures"
DRAWING = BootstrapSettings(seed=1, resamples=200)


def distance(one, other):
    """Levenshtein by the textbook's table."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]


def evaluated(path, engine=None):
    read = cases.read_cases(path)
    engine = engine or FileEngine(path, read.all_ids)
    return [judge_proposal(case, mine) for case, mine in zip(read.cases, engine.propose(read.cases), strict=True)]


@pytest.mark.parametrize("name, chars, before, after, improved, neutral, bound", [
    ("smoke", 21, 3, 1, 2, 0, 0.7764), ("synthetic", 90, 12, 9, 3, 5, 0.3123), ("real", 434, 330, 326, 1, 0, 0.95),
])  # fmt: skip
def test_published_bridge_runs(name, chars, before, after, improved, neutral, bound):
    path = FIXTURES / f"{name}.jsonl"
    got = summary.summarize_rows(evaluated(path), DRAWING)
    assert (got["edits_before"], got["edits_after"], got["reference_chars"]) == (before, after, chars)
    assert got["cer_before"] == before / chars and got["cer_after"] == after / chars
    assert (got["improved"], got["neutral"], got["worse"]) == (improved, neutral, 0)
    assert got["worse_upper95"] == pytest.approx(bound, abs=5e-5)
    rows = [case.fields for case in cases.read_cases(path).cases]
    assert sum(distance(row["asr_text"], row["reference_text"]) for row in rows) == before
    final = [row["proposal"] if row.get("accepted", True) else row["asr_text"] for row in rows]
    assert sum(map(distance, final, (row["reference_text"] for row in rows))) == after
    blind = sum(distance(row["proposal"], row["reference_text"]) for row in rows)
    best = sum(min(distance(row["proposal"], row["reference_text"]), row["cer_edits"]) for row in rows)
    assert (got["cer_blind"], got["cer_oracle"]) == (blind / chars, best / chars)


def test_groups_add_up_to_the_whole():
    got = summary.summarize_rows(evaluated(FIXTURES / "real.jsonl"), DRAWING)
    assert list(got["by"]["partition"]) == ["stable", "boundary", "uncertain", "novelty"]
    assert list(got["by"]["length"]) == ["over 50 to 100"]
    for groups in got["by"].values():
        for count in ("rows", "reference_chars", "edits_before", "edits_after", "improved", "neutral", "worse"):
            assert sum(group[count] for group in groups.values()) == got[count]
    assert got["evidence_class"] == {"real_same_provenance": 6}


def test_identity_and_oracle():
    same = summary.summarize_rows(evaluated(FIXTURES / "synthetic.jsonl", IdentityEngine()), DRAWING)
    assert (same["neutral"], same["changed"], same["cer_change"]) == (8, 0, 0.0)
    assert same["cer_change_interval95"] == (0.0, 0.0) and same["worse_upper95_of_changed"] == 1.0
    best = summary.summarize_rows(evaluated(FIXTURES / "synthetic.jsonl", OracleEngine()), DRAWING)
    assert (best["improved"], best["exact_before"], best["exact_after"], best["cer_after"]) == (8, 0, 8, 0.0)


def texts(draw, count):
    letters = "ߊߋߌ߲߫߬ߞߡ a\u0301"
    return [" ".join("".join(draw.choices(letters, k=draw.randint(1, 6))) for _ in range(draw.randint(1, 4)))
            for _ in range(count)]  # fmt: skip


def test_rates_against_jiwer():
    draw = random.Random(2)
    inputs, proposals, references = (
        [normalize_text(text).strip() for text in texts(draw, 30)] for _ in range(3)
    )  # fmt: skip
    references = [reference or "ߊ" for reference in references]
    some = [
        cases.Case(n, str(n), text, wanted, ()) for n, (text, wanted) in enumerate(zip(inputs, references, strict=True))
    ]
    rows = [judge_proposal(case, Proposal(text)) for case, text in zip(some, proposals, strict=True)]
    got = summary.summarize_rows(rows, DRAWING)
    for when, said in (("before", inputs), ("after", proposals)):
        assert got[f"cer_{when}"] == pytest.approx(jiwer.cer(references, said))
        assert got[f"wer_{when}"] == pytest.approx(jiwer.wer(references, said))
    change = [row["edits_after"]["codepoint"] - row["edits_before"]["codepoint"] for row in rows]
    assert [got[name] for name in ("improved", "neutral", "worse")] == [
        sum(c < 0 for c in change), sum(c == 0 for c in change), sum(c > 0 for c in change)]  # fmt: skip


def row(text, proposal, reference, base=None, **more):
    case = cases.Case(0, "x", text, reference, (), **more)
    return judge_proposal(case, Proposal(proposal), Proposal(base) if base is not None else None)


def test_units_differ_as_they_should():
    """A lost tone is one code point, one cluster, and nothing where tones are taken away."""
    got = summary.summarize_rows([row("ߞߊ ߡߌ", "ߞߊ߬ ߡߌ", "ߞߊ߬ ߡߌ")], DRAWING)
    assert (got["cer_before"], got["cer_before_grapheme"], got["cer_before_toneless"], got["wer_before"]) == (
        1 / 6, 1 / 5, 0.0, 1 / 2)  # fmt: skip
    assert got["cer_after"] == got["cer_after_grapheme"] == got["cer_after_toneless"] == 0.0


def test_empty_references_stand_apart():
    got = summary.summarize_rows([row("ab", "a", "ab"), row("abc", "abcd", " ")], DRAWING)
    assert (got["rows"], got["edits_after"], got["worse"]) == (1, 1, 1)
    assert got["empty_reference"] == {"rows": 1, "insertions_before": 3, "insertions_after": 4}
    alone = summary.summarize_rows([row("abc", "", "")], DRAWING)
    assert (alone["rows"], alone["cer_change"], alone["cer_change_interval95"]) == (0, None, None)


def test_base_beside_adapter():
    got = summary.summarize_rows([row("axx", "abx", "abc", base="axxx"), row("abd", "abc", "abc", base="abc")], DRAWING)
    assert (got["improved"], got["base"]["improved"], got["base"]["worse"]) == (2, 1, 1)
    assert (got["base"]["edits_before"], got["base"]["edits_after"]) == (3, 3)
    over = got["adapter_over_base"]
    assert (over["edits_before"], over["edits_after"], over["improved"], over["neutral"]) == (3, 1, 1, 1)


def test_flags_are_counted_by_name():
    got = summary.summarize_rows([row("abc", "", "abc"), row("abc", "abc", "abc"), row("abc", "<pad>", "abc")], DRAWING)
    assert (got["flags"]["empty"], got["flags"]["pad_only"], got["flags"]["loop"]) == (1, 1, 0)


@pytest.mark.parametrize("chars, name", [
    (1, "to 20"), (20, "to 20"), (21, "over 20 to 50"), (200, "over 100 to 200"), (201, "over 200"),
])  # fmt: skip
def test_length_bins(chars, name):
    assert summary.length_group(row("a", "a", "a" * chars)) == name
