"""The gate: every rule on both sides of its limit, what no accepted text can be, and proposers that mean harm."""

from __future__ import annotations

import json
import math
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import REPOSITORY, TEST_DATA
from gate_texts import BOOK, LATIN, LETTERS, TEXT, changed, decide, nko, rules_of
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from thunder.bridge.gate import gate
from thunder.bridge.gate.gate import GateEvidence, GateVerdict
from thunder.bridge.gate.gate_rules import read_gate_rules
from thunder.evaluation import cases
from thunder.evaluation.engines import FileEngine, IdentityEngine, OracleEngine, Proposal
from thunder.evaluation.metrics.judge import judge_proposal
from thunder.evaluation.metrics.summary import summarize_rows
from thunder.statistics.clopper_pearson import share_upper_bound
from thunder.text.transliterate import to_nko

FIXTURES = REPOSITORY / "tests" / "fixtures"
JUNK = TEST_DATA / "rows" / "bam_asr_hyp_ref_nemo_log.jsonl"


def test_without_a_script_the_input_says_it():
    assert decide(TEXT, changed(TEXT, 1), script=None).script == "nko"
    assert decide(LATIN, LATIN.replace("tere", "tile"), script=None).script == "latin"


@pytest.mark.parametrize("partition, chars, edits, broken", [
    ("stable", 100, 1, {"edits", "ratio"}),
    ("novelty", 100, 1, {"edits", "ratio"}),
    ("recovery", 100, 10, set()),
    ("recovery", 100, 11, {"edits"}),
    ("boundary", 100, 10, set()),
    ("boundary", 100, 11, {"edits"}),
    ("boundary", 100, 15, {"edits"}),
    ("boundary", 100, 16, {"edits", "ratio"}),
    ("boundary", 9, 1, set()),
    ("boundary", 9, 2, {"edits", "ratio"}),
    ("boundary", 5, 1, {"ratio"}),  # 1 of 5 is 20 %
    ("boundary", 39, 3, set()),
    ("boundary", 39, 4, {"edits"}),
    ("uncertain", 100, 20, set()),
    ("uncertain", 100, 21, {"edits"}),
    ("uncertain", 100, 25, {"edits"}),
    ("uncertain", 100, 26, {"edits", "ratio"}),
    ("uncertain", 9, 2, set()),
    ("uncertain", 9, 3, {"edits", "ratio"}),
    ("uncertain", 7, 2, {"ratio"}),  # 2 of 7 is 28.6 %
])  # fmt: skip
def test_budgets_on_both_sides(partition, chars, edits, broken):
    text = nko(chars, seed=3)
    verdict = decide(text, changed(text, edits), partition)
    assert (verdict.edits, verdict.chars) == (edits, chars)
    assert rules_of(verdict) == broken
    assert verdict.decision == ("reject" if broken else "accept")


@pytest.mark.parametrize("partition, confidence, margin, broken", [
    ("boundary", 0.80, 0.0, set()),
    ("boundary", 0.7999, 0.0, {"confidence"}),
    ("boundary", None, 0.0, {"confidence"}),
    ("boundary", 0.80, None, set()),  # a least margin of 0 can be met unsaid
    ("boundary", 0.80, -0.001, {"margin"}),
    ("uncertain", 0.90, 0.10, set()),
    ("uncertain", 0.8999, 0.10, {"confidence"}),
    ("uncertain", 0.90, 0.0999, {"margin"}),
    ("uncertain", 0.90, None, {"margin"}),
    ("uncertain", None, None, {"confidence", "margin"}),
    ("uncertain", math.e, 0.10, {"confidence"}),  # a log-probability above 0 is none
])  # fmt: skip
def test_evidence_on_both_sides(partition, confidence, margin, broken):
    said = None if confidence is None else math.log(confidence) + 1e-12 * (confidence < 1)
    assert rules_of(decide(TEXT, changed(TEXT, 3), partition, confidence=said, margin=margin)) == broken


def test_as_sure_as_is_asked_for_is_enough():
    """Where the logarithm is exact: exp(0) is 1."""
    budget = BOOK.budgets["uncertain"].model_copy(update={"min_confidence": 1.0})
    book = replace(BOOK, budgets={**BOOK.budgets, "uncertain": budget})
    for sure, fine in ((0.0, True), (-1e-9, False)):
        evidence = GateEvidence(TEXT, Proposal(changed(TEXT, 1), sure, margin=1.0), "uncertain", "nko")
        assert (gate.decide_proposal(evidence, book).decision == "accept") == fine


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, -(10**400)])
def test_numbers_that_are_none_count_as_not_said(value):
    found = decide(TEXT, changed(TEXT, 3), confidence=value, margin=value)
    assert rules_of(found) == {"confidence", "margin"} and found.confidence is found.margin is None


SCALARS = {"novelty": 0.1, "uncertainty": 0.1, "transition_pressure": 0.0, "commitment": 0.9}


@pytest.mark.parametrize("given, scalars, wanted", [
    ("boundary", None, ("boundary", "given")),
    ("boundary", SCALARS | {"novelty": 1.0}, ("boundary", "given")),
    ("Boundary", SCALARS, ("novelty", "unknown")),
    ("unknown", SCALARS, ("novelty", "unknown")),
    ("", SCALARS, ("novelty", "unknown")),
    (None, None, ("novelty", "missing")),
    (None, {}, ("novelty", "missing")),
    (None, SCALARS | {"commitment": None}, ("novelty", "missing")),
    (None, SCALARS | {"commitment": math.nan}, ("novelty", "missing")),
    (None, SCALARS | {"commitment": True}, ("novelty", "missing")),
    (None, SCALARS | {"commitment": "0.9"}, ("novelty", "missing")),
    (None, SCALARS, ("stable", "derived")),
    (None, SCALARS | {"novelty": 0.6, "uncertainty": 0.9}, ("novelty", "derived")),
    (None, SCALARS | {"novelty": 0.59, "uncertainty": 0.5}, ("uncertain", "derived")),
    (None, SCALARS | {"uncertainty": 0.49, "transition_pressure": 0.15}, ("boundary", "derived")),
    (None, SCALARS | {"transition_pressure": -0.15}, ("boundary", "derived")),
    (None, SCALARS | {"transition_pressure": 0.149}, ("stable", "derived")),
    (None, SCALARS | {"commitment": 0.5}, ("stable", "derived")),
    (None, SCALARS | {"commitment": 0.499}, ("boundary", "derived")),
])  # fmt: skip
def test_which_partition_counts(given, scalars, wanted):
    verdict = decide(TEXT, TEXT, given, scalars=scalars)
    assert (verdict.partition, verdict.partition_source) == wanted


def test_unchanged_text_is_kept_as_it_came():
    for partition in ("stable", "boundary", "uncertain", "novelty", "strange"):
        asked = "  " + TEXT.replace(" ", "  ", 1) + " "
        verdict = decide(asked, TEXT, partition)
        assert (verdict.decision, verdict.text, verdict.reasons) == ("keep", asked, ())
        assert verdict.admissible == (partition in ("stable", "boundary", "uncertain"))


def test_the_other_order_of_marks_is_no_edit():
    one, other = TEXT + "ߊ\u07eb\u07f2", TEXT + "ߊ\u07f2\u07eb"
    assert one != other and decide(one, other).decision == "keep"
    assert decide(one, other).text == one


@pytest.mark.parametrize("text, rule", [
    (TEXT + "\u202e", "characters"), ("ߊߓ" * 20, "loop"), ("", "empty"), ("abc" + TEXT[:20], "script"),
])  # fmt: skip
def test_a_kept_text_that_breaks_a_rule_is_not_admissible(text, rule):
    verdict = decide(text, text)
    assert verdict.decision == "keep" and rule in rules_of(verdict) and not verdict.admissible


@pytest.mark.parametrize("asked", [
    TEXT.replace(" ", "\t", 1), TEXT.replace(" ", "\u2028", 1), TEXT + "\x1c", TEXT + "\n"])  # fmt: skip
def test_space_that_a_comparison_passes_over_is_no_secret_way_in(asked):
    verdict = decide(asked, TEXT)
    assert (verdict.decision, verdict.text, rules_of(verdict)) == ("keep", asked, {"characters"})
    assert not verdict.admissible


def test_all_reasons_are_told_at_once():
    verdict = decide(TEXT, f"Correct this N'Ko transcript:\n\u202e<pad>{'no ' * 90}1", "stable", confidence=None)
    assert {"characters", "script", "loop", "special_token", "prompt_echo", "new_script", "figures", "length", "edits",
            "ratio"} <= rules_of(verdict)  # fmt: skip
    assert [reason.rule for reason in verdict.reasons] == sorted(rules_of(verdict), key=list(gate.ALL_RULES).index)


def test_cut_off_and_withheld_proposals():
    assert rules_of(decide(TEXT, changed(TEXT, 1), finished=False)) == {"unfinished"}
    assert rules_of(decide(TEXT, TEXT, accepted=False)) == {"withheld"}


def verdicts(accept: int, reject: int, keep: int) -> list[GateVerdict]:
    made = [decide(TEXT, changed(TEXT, 1))] * accept + [decide(TEXT, "")] * reject + [decide(TEXT, TEXT)] * keep
    assert [each.decision for each in made] == ["accept"] * accept + ["reject"] * reject + ["keep"] * keep
    return made


@pytest.mark.parametrize("counts, why", [
    ((6, 0, 14), None), ((7, 0, 13), "changed"), ((19, 0, 0), None), ((20, 0, 0), "changed"),
    ((0, 18, 2), None), ((0, 19, 1), "rejected"), ((0, 19, 0), None), ((0, 20, 0), "rejected"), ((0, 0, 0), None),
    ((30, 70, 0), None), ((31, 69, 0), "changed"), ((9, 90, 1), None), ((0, 91, 9), "rejected"),
])  # fmt: skip
def test_the_breaker_on_both_sides(counts, why):
    found = gate.breaker_reason(verdicts(*counts), BOOK.rules)
    assert (why in found) if why else found is None


def test_nothing_of_a_stopped_batch_is_changed_or_admissible():
    for verdict in verdicts(1, 1, 1):
        after = gate.reject_with_batch(verdict, TEXT, "why")
        assert after.text == TEXT and not after.admissible and after.decision != "accept"
        assert after.reasons[-1] == ("breaker", "why")


# What no accepted text can be, counted again by other means.
ODD = "\u202e\u200b\x00\n\t \u00a0\u07fb\u07fc\ufe0f\ufeff\u07eb\u07f2\u07faabаݐ1߁.߸<>\u0301"


@st.composite
def edited(draw):
    asked = nko(draw(st.integers(4, 60)), draw(st.integers(0, 50)))
    letters = list(asked)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(letters)))
        some = draw(st.text(st.sampled_from(LETTERS) | st.sampled_from(ODD), max_size=2))
        letters[at : at + draw(st.integers(0, 2))] = some
    return asked, "".join(letters)


@st.composite
def with_one_odd_character(draw):
    asked = nko(draw(st.integers(30, 60)), draw(st.integers(0, 50)))
    at = draw(st.integers(1, len(asked) - 1))
    odd = draw(st.sampled_from([*ODD, "  ", " \u00a0"]))
    return asked, changed(asked[:at], draw(st.integers(0, 1))) + odd + asked[at + draw(st.integers(0, 1)) :]


@pytest.mark.expensive
@given(edited() | with_one_odd_character(),
       st.sampled_from(["stable", "boundary", "uncertain", "novelty", "other", None]))  # fmt: skip
@settings(max_examples=500)
@example((TEXT, TEXT[:50] + "ߺ" + TEXT[50:]), "boundary")
@example((TEXT, TEXT[:6] + " " + TEXT[6:-1]), "boundary")
@example((TEXT, changed(TEXT, 1)), "boundary")
def test_no_accepted_text_breaks_a_hard_rule(pair, partition):
    asked, proposal = pair
    verdict = decide(asked, proposal, partition)
    if verdict.decision != "accept":
        assert verdict.text == asked
        return
    got, n = verdict.text, len(asked.strip())
    assert partition in ("boundary", "uncertain") and got and got == unicodedata.normalize("NFC", got)
    assert not {unicodedata.category(each) for each in got} & {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
    assert not set(got) & set("\ufe0f\u00a0\u07fb\u07fc\u07fa") and "  " not in got
    letters = [each for each in got if each.isalpha()]
    assert all(0x7C0 <= ord(each) <= 0x7FF for each in letters)
    assert [each for each in got if unicodedata.category(each)[0] in "NPS"] == []
    assert abs(len(got) - n) <= 2 if n < 8 else 0.8 * n <= len(got) <= 1.25 * n
    assert all(got[at : at + unit * 4] != got[at : at + unit] * 4 or not got[at : at + unit].strip()
               for unit in range(2, 20) for at in range(len(got) - 4 * unit + 1))  # fmt: skip
    edits = levenshtein(unicodedata.normalize("NFC", asked).strip(), got)
    assert 0 < edits <= (max(1, n // 10) if partition == "boundary" else max(2, n // 5))
    assert edits / n <= (0.15 if partition == "boundary" else 0.25)


# of more than fifty letters, so that a single strange one is not too many already
LONG_LATIN = f"{LATIN} o tɛ a dɔn ko u bɛ na sini wa"


@st.composite
def latin_edited(draw):
    letters = list(LONG_LATIN)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(letters) - 1))
        some = draw(st.sampled_from([*"aɛɔŋ'’", *ODD, "ߊ", "а", "é", "e\u0301", "ﬁ", "7", "  ", "-"]))
        letters[at : at + draw(st.integers(0, 1))] = some
    return "".join(letters)


@pytest.mark.expensive
@given(latin_edited())
@settings(max_examples=300)
def test_no_accepted_text_of_a_latin_row_breaks_a_hard_rule(proposal):
    verdict = decide(LONG_LATIN, proposal, script="latin")
    if verdict.decision != "accept":
        assert verdict.text == LONG_LATIN
        return
    got = verdict.text
    letters = [each for each in got if unicodedata.category(each)[0] == "L" and each not in "\u02bc"]
    assert all(unicodedata.name(each).startswith("LATIN") for each in letters) and got.isprintable()
    assert not set(got) & set("0123456789.-<>ﬁ\u00a0\u200b\ufe0f\ufeff\u07fa") and "  " not in got
    assert 0 < levenshtein(LONG_LATIN, got) <= len(LONG_LATIN) // 5 and unicodedata.is_normalized("NFC", got)


def levenshtein(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        last, row[0] = row[0], at
        for to, wanted in enumerate(other, 1):
            last, row[to] = row[to], min(row[to] + 1, row[to - 1] + 1, last + (letter != wanted))
    return row[-1]


@given(edited(), st.floats(-3, 0), st.floats(-1, 1))
@settings(max_examples=60)
def test_the_same_evidence_has_the_same_verdict_and_more_of_it_never_hurts(pair, confidence, margin):
    asked, proposal = pair
    assume(asked.split() != proposal.split())
    first = decide(asked, proposal, confidence=confidence, margin=margin)
    assert first == decide(asked, proposal, confidence=confidence, margin=margin)
    better = decide(asked, proposal, confidence=confidence / 2, margin=margin + 0.5)
    assert rules_of(better) <= rules_of(first)


# Proposers that mean harm, on recogniser output of which little can be repaired; as sure of themselves as can be.
ENGLISH = "the committee has decided that every one of these sentences should be answered in plain english"


def small(character):
    return lambda text, reference: text[: len(text) // 2] + character + text[len(text) // 2 :]


HARMFUL = {
    "pads at the end": lambda text, reference: text + "<pad>" * 3,
    "one pad": lambda text, reference: text + "<pad>",
    "pads with dots": lambda text, reference: text + "....",
    "doubles a blank": lambda text, reference: text.replace(" ", "  ", 1),
    "wide blanks": lambda text, reference: text.replace(" ", "\u00a0"),
    "loops its last word": lambda text, reference: text + f" {text.split()[-1] if text.split() else 'a'}" * 5,
    "loops two letters": lambda text, reference: text + "la" * 4,
    "says all of it twice": lambda text, reference: f"{text} {text}",
    "switches script": lambda text, reference: to_nko(text).text,
    "switches the reference's script": lambda text, reference: to_nko(reference).text,
    "one letter of N'Ko": small("ߊ"), "one letter of Cyrillic": small("а"), "a bidi override": small("\u202e"),
    "an isolate": small("\u2067"), "a joiner": small("\u200d"), "an accent on nothing": small(" \u0301"),
    "a line end": small("\n"), "a nul": small("\x00"), "a digit": small("7"), "stretches": small("ߺ"),
    "answers in English": lambda text, reference: ENGLISH[: len(text)] if len(text) < 90 else ENGLISH,
    "answers about it": lambda text, reference: f"Sure! Here is the corrected transcript: {text}",
    "repeats the prompt": lambda text, reference: f"Correct this N'Ko transcript:\n{text}",
    "says nothing": lambda text, reference: "",
    "drops its end": lambda text, reference: text[: len(text) // 2],
}  # fmt: skip


@pytest.mark.parametrize("name", ["identity", "oracle", *HARMFUL])
def test_junk_rows_are_never_made_worse(name):
    worse, accepted = [], 0
    for case in cases.read_cases(JUNK).cases:
        text = {"identity": case.input, "oracle": case.reference}.get(name)
        text = HARMFUL[name](case.input, case.reference) if text is None else text
        verdict = decide(case.input, text, script="latin")
        if verdict.decision != "accept":
            assert verdict.text == case.input
            continue
        accepted += 1
        row = judge_proposal(case, Proposal(verdict.text))
        if row["edits_after"]["codepoint"] > row["edits_before"]["codepoint"]:
            worse.append((case.row_id, case.input, verdict.text))
    assert not worse
    assert accepted == 0 or name == "oracle"


# what the fixtures' own gate saw is not published: these proposals come with all the confidence there can be, and those
# that were not taken with none
@pytest.mark.parametrize("name, wanted", [
    ("smoke", (0.1429, 0.0476, 2, 0, 0)), ("synthetic", (0.1333, 0.1, 3, 5, 0)), ("real", (0.7604, 0.7512, 1, 0, 0)),
])  # fmt: skip
def test_published_runs_with_their_bound_on_harm(name, wanted):
    path = FIXTURES / f"{name}.jsonl"
    read = cases.read_cases(path)
    taken = [json.loads(line).get("accepted", True) for line in path.read_text(encoding="utf-8").splitlines()]
    rows, proposals = [], FileEngine(path, read.all_ids).propose(read.cases)
    for case, proposal, accepted in zip(read.cases, proposals, taken, strict=True):
        said = {"confidence": -0.05, "margin": 0.2} if accepted else {}
        verdict = gate.decide_proposal(
            GateEvidence(case.input, Proposal(proposal.text, **said), case.partition, case.script), BOOK
        )
        assert (verdict.decision == "accept") == accepted
        rows.append(judge_proposal(case, Proposal(proposal.text, accepted=accepted)))
    found = summarize_rows(rows)
    got = tuple(found[key] for key in ("cer_before", "cer_after", "improved", "neutral", "worse"))
    assert got == pytest.approx(wanted, abs=5e-5)
    assert found["accepted"] == sum(taken) and found["worse_upper95"] == share_upper_bound(0, sum(taken))
    assert found["worse_upper95"] == pytest.approx(1 - 0.05 ** (1 / sum(taken)))
    blind = summarize_rows(
        [judge_proposal(case, Proposal(row["proposal"])) for case, row in zip(read.cases, rows, strict=True)]
    )
    assert blind["cer_after"] == found["cer_blind"]


@pytest.mark.parametrize(
    "engine, decisions", [(IdentityEngine(), {"keep"}), (OracleEngine(), {"accept", "reject", "keep"})]
)
def test_engines_of_the_evaluation(engine, decisions):
    read = cases.read_cases(FIXTURES / "synthetic.jsonl")
    for case, proposal in zip(read.cases, engine.propose(read.cases), strict=True):
        assert (
            gate.decide_proposal(GateEvidence(case.input, proposal, case.partition, case.script), BOOK).decision
            in decisions
        )


@pytest.mark.expensive
def test_a_reason_is_short_whatever_is_proposed():
    for text in ("." * 100_000, "1" * 100_000 + TEXT, TEXT * 500, "\u202e" * 50_000, "\U000e0041ꙮ" * 9999):
        verdict = decide(TEXT, text)
        assert verdict.reasons and all(len(reason.said) < 400 for reason in verdict.reasons)


def test_every_rule_has_a_meaning_and_a_test():
    files = (Path(__file__), Path(__file__).with_name("test_invariants.py"))
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    assert all(f'"{rule}"' in source for rule in gate.ALL_RULES)


def test_recovery_has_a_budget_of_its_own_and_none_in_the_rules_before_it():
    evidence = GateEvidence(TEXT, Proposal(changed(TEXT, 1), confidence=math.log(0.95), margin=0.2), "recovery")
    verdict = gate.decide_proposal(evidence, BOOK)
    assert (verdict.decision, verdict.partition, verdict.partition_source) == ("accept", "recovery", "given")
    for unsure in (Proposal(changed(TEXT, 1), math.log(0.85), margin=0.2), Proposal(changed(TEXT, 1), math.log(0.95))):
        assert gate.decide_proposal(replace(evidence, proposal=unsure), BOOK).decision == "reject"
    v1 = read_gate_rules(REPOSITORY / "configs" / "gate" / "agp_rules_v1.yaml")
    before = gate.decide_proposal(evidence, v1)
    assert (before.decision, before.partition, before.partition_source) == ("reject", "novelty", "unknown")
