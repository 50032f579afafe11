"""Invariants of a proposal, on both sides of each limit: characters, script, length, syllables and spans."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gate_texts import BOOK, LATIN, SURE, TEXT, changed, decide, nko, rules_of
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.bridge.gate import gate
from thunder.bridge.gate.gate import GateEvidence
from thunder.evaluation.engines import Proposal

SHORT = nko(7)


@pytest.mark.parametrize("asked, proposal, rule", [
    (TEXT, changed(TEXT, 1), None),
    (TEXT, "", "empty"),
    (TEXT, " \n ", "empty"),
    (TEXT, TEXT[:50] + "\u202e" + TEXT[50:], "characters"),
    (TEXT, TEXT[:50] + "\u200d" + TEXT[50:], "characters"),
    (TEXT, TEXT[:50] + "\ufe0f" + TEXT[50:], "characters"),
    (TEXT, TEXT[:50] + "\x07" + TEXT[50:], "characters"),
    (TEXT, TEXT[:50] + "\u07fb" + TEXT[50:], "characters"),
    (TEXT, TEXT[:50] + "\ufffd" + TEXT[50:], "characters"),
    (TEXT, TEXT[:5] + " \u07eb" + TEXT[5:], "characters"),  # a tone mark on a blank
    (TEXT, TEXT[:4] + "\u07eb" + TEXT[4:], None),  # and on a letter
    (TEXT, changed(TEXT, 1)[:5] + "\n" + TEXT[6:], "characters"),
    (TEXT + " abc", changed(TEXT, 1) + " abc", "script"),  # 84 of 87 letters, 96.5 %
    (TEXT + " a", changed(TEXT, 1) + " a", None),  # 84 of 85, 98.8 %
    (TEXT + " a", changed(TEXT, 1) + " b", "new_script"),
    (TEXT, TEXT[:99] + "a", "new_script"),
    (TEXT, TEXT[:50] + "а" + TEXT[50:], "new_script"),  # a Cyrillic letter that looks Latin
    (TEXT, TEXT[:50] + "ߺ" + TEXT[50:], "stretching"),
    (TEXT[:50] + "ߺ" + TEXT[50:], changed(TEXT, 1)[:50] + "ߺ" + TEXT[50:], None),
    (TEXT, TEXT[:5] + " " + TEXT[5:] + "ߊ", "spacing"),
    (TEXT, TEXT[:5] + "\u00a0" + TEXT[6:] + "ߊ", "spacing"),
    (TEXT[:5] + " " + TEXT[5:], TEXT[:5] + " " + changed(TEXT, 2)[5:], None),
    (TEXT + "߁߂ ߸", changed(TEXT, 1) + "߁߂ ߸", None),
    (TEXT + "߁߂ ߸", changed(TEXT, 1) + "߁߃ ߸", "figures"),
    (TEXT + "߁߂ ߸", changed(TEXT, 1) + "߁߂", "figures"),
    (TEXT, TEXT + ".", "figures"),
    (TEXT, TEXT[:80], None),
    (TEXT, TEXT[:79], "length"),
    (TEXT, TEXT + nko(25, 1), None),
    (TEXT, TEXT + nko(26, 1), "length"),
    (SHORT, SHORT + "ߊߋ", None),
    (SHORT, SHORT + "ߊߋߌ", "length"),
    (nko(8), nko(8) + "ߊߋ", None),
    (nko(8), nko(8) + "ߊߋߌ", "length"),
    (SHORT, SHORT[:5], None),
    (SHORT, SHORT[:4], "length"),
    (nko(8), nko(8)[:7], None),
    (nko(8), nko(8)[:5] + "ߞ", "length"),  # 6 of 8 is 75 %, though no more than 2 apart
    (TEXT, TEXT + "ߊߓߊߓߊߓ", None),
    (TEXT, TEXT + "ߊߓߊߓߊߓߊߓ", "loop"),
    (TEXT, TEXT + "<pad>", "special_token"),
    (TEXT, TEXT + "<|turn>", "special_token"),
    (TEXT, f"Correct this N'Ko transcript:\n{TEXT}", "prompt_echo"),
])  # fmt: skip
def test_hard_rules_on_both_sides(asked, proposal, rule):
    verdict = decide(asked, proposal)
    hard = rules_of(verdict) - gate.SOFT_RULES.keys()
    assert (rule in hard) if rule else not hard, verdict.reasons
    assert verdict.decision != "accept" or rule is None
    assert verdict.decision == "accept" or verdict.text == asked


@pytest.mark.parametrize("proposal, rule", [
    (LATIN.replace("tere", "tile"), None),
    (LATIN.replace("k'a", "ka"), None),  # an apostrophe is part of its word
    (LATIN.replace("ni", "ߣߌ"), "script"),
    (LATIN.replace("ni", "nߌ"), "new_script"),
    (LATIN.replace("fɛ", "f4"), "figures"),
    (LATIN.replace("bɔ", "bɔ,"), "figures"),
])  # fmt: skip
def test_rows_of_latin(proposal, rule):
    verdict = decide(LATIN, proposal, script="latin")
    assert (rule in rules_of(verdict)) if rule else verdict.decision == "accept"


def test_a_row_of_no_script_that_there_are_rules_for():
    assert "script" in rules_of(decide("абв где", "абв гдд", script=None))
    assert "script" in rules_of(decide(TEXT, changed(TEXT, 1), script="adlam"))


@pytest.mark.parametrize("spans, place, fine", [
    (((10, 12),), 10, True), (((10, 12),), 9, True), (((10, 12),), 12, True),
    (((10, 12),), 8, False), (((10, 12),), 13, False), ((), 10, False), (None, 50, True),
    (((20, 22), (2, 4)), 21, True), (((20, 22), (2, 4)), 12, False), (((0, 1),), 0, True), (((99, 100),), 99, True),
    (((10, 12), (11, 30)), 25, True), (((50, 5000),), 99, True), (((5, 5),), 4, True),
])  # fmt: skip
def test_edits_stay_in_their_spans(spans, place, fine):
    text = TEXT.replace(" ", "ߡ")
    proposal = text[:place] + ("ߞ" if text[place] != "ߞ" else "ߟ") + text[place + 1 :]
    for ahead in ("", "  "):  # spans count from the text's own start
        moved = spans and tuple((start + len(ahead), end + len(ahead)) for start, end in spans)
        verdict = decide(ahead + text, proposal, spans=moved)
        assert ("spans" not in rules_of(verdict)) == fine


@given(st.data())
@settings(max_examples=60)
def test_spans_hold_what_is_outside_them(data):
    """What is cut out of the spans and filled with anything fits; and all that fits is such a text."""
    text = data.draw(st.text("ab", max_size=12))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=4)))
    spans = tuple(zip(cuts[::2], cuts[1::2], strict=False))
    proposal = data.draw(st.text("ab", max_size=12))
    pieces, place = [], 0
    for start, end in spans:
        pieces, place = [*pieces, text[place:start]], end
    fits = brute(proposal, [*pieces, text[place:]])
    from thunder.bridge.gate.invariants import check_spans

    assert (not list(check_spans(text, proposal, spans, 0))) == fits


def brute(text: str, pieces: list[str]) -> bool:
    """Whether a text begins with the first piece and goes on, after anything, with the others to its end."""
    if not text.startswith(pieces[0]):
        return False
    rest = text[len(pieces[0]) :]
    if len(pieces) == 1:
        return not rest
    return any(brute(rest[at:], pieces[1:]) for at in range(len(rest) + 1))


STRICT = replace(BOOK, rules=BOOK.rules.model_copy(update={"syllables": "no-worse"}))


@pytest.mark.parametrize("asked, proposal, fine", [
    ("ߡߎ߬ߛߏ ߟߎ߬ ߣߊ߬ߣߊ߫ ߛߏ", "ߡߎ߬ߛߏ ߟߎ߬ ߣߊ߬ߣߊ߫ ߛߏ߫", True),  # a tone
    ("ߡߎ߬ߛߏ ߟߎ߬ ߣߊ߬ߣߊ߫ ߛߏ", "ߡߎ߬ߛߏ ߟߎ߬ ߣߣߊ߫ ߛߏ", False),  # a vowel is lost
    ("ߡߎ߬ߛߏ ߟߎ߬ ߣߣߊ߫ ߛߏ", "ߡߎ߬ߛߏ ߟߎ߬ ߣߊ߬ߣߊ߫ ߛߏ", True),  # and put back
    ("ߡߎ߬ߛߏ ߟߎ߬ ߣߣߊ߫ ߛߏ", "ߡߎ߬ߛߏ ߟߎ߬ ߣߣߊ߬ ߛߏ", True),  # as bad as before
    ("ߡߎ߬ߛߏ ߟߎ ߣߊ߬ߣߊ߫ ߛ", "ߡߎ߬ߛߏ ߟߎ߲߲ ߣߊ߬ߣߊ߫ ߛ", False),  # a second dot
    ("ߡߎ߬ߛߏ ߟߎ ߣߊ߬ߣߊ߫ ߛߏ", "ߡߎ߬ߛߏ ߟߎ߲ ߣߊ߬ߣߊ߫ ߛߏ", True),  # a nasal vowel
    ("ߡߎ߬ߛߏ ߟߎ߬ ߓߟߏ߫ ߛߏ", "ߡߎ߬ߛߏ ߟߎ߬ ߓߟߏ߯ ߛߏ", False),  # nothing is elided before a long vowel
])  # fmt: skip
def test_syllables_on_both_sides(asked, proposal, fine):
    got = gate.decide_proposal(GateEvidence(asked, Proposal(proposal, **SURE), "uncertain", "nko"), STRICT)
    assert ("syllables" in rules_of(got)) != fine and (got.decision == "accept") == fine
    # it is off unless a file of rules says it
    assert BOOK.rules.syllables == "off" and decide(asked, proposal).decision == "accept"
    assert decide(asked, proposal, partition="stable").reasons  # the rest of the gate stands as it did


def test_rows_of_latin_have_no_syllables_of_nko():
    evidence = GateEvidence(LATIN, Proposal(LATIN.replace("tere", "trr"), **SURE), "uncertain", "latin")
    assert gate.decide_proposal(evidence, STRICT).decision == "accept"
