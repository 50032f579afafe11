"""Rules that every proposal must keep, in every partition: characters, script, length, loops and allowed spans."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from thunder.bridge.gate.gate_rules import GateRules
from thunder.evaluation.engines import Proposal
from thunder.evaluation.metrics import proposal_flags
from thunder.text import normalize
from thunder.text.alphabet import LAJANYALAN, LATIN_APOSTROPHES
from thunder.text.syllables import count_violations

SCRIPTS = ("nko", "latin")
# what each rule forbids; reasons are reported in this order
TEXT_RULES = {
    "empty": "no text at all",
    "characters": "control, format, invisible or unassigned characters, bidi overrides, marks without a letter",
    "script": "letters of another script than that of the row",
    "loop": "a piece of two characters or more at least four times in a row",
    "special_token": "padding and other special tokens",
    "prompt_echo": "the instruction of the prompt",
}
CHANGE_RULES = {
    "new_script": "letters of another script that the input lacks",
    "stretching": "lajanyalan that the input lacks",
    "spacing": "space other than single blanks that the input lacks",
    "figures": "digits and punctuation that differ from the input",
    "length": "much shorter or longer than the input",
    "syllables": "more violations of N'Ko syllables than in the input",
    "unfinished": "cut off before it came to an end",
    "spans": "edits outside the given spans",
}
QUOTED_CHARS = 40  # code points of a text in a reason
_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# invisible marks and letters: joiners, fillers, variation selectors
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_SPACING = re.compile(r"\s{2,}|[^\S ]")
_NO_FAULTS = {"lajanyalan", "not in normal form C"}


class BrokenRule(NamedTuple):
    """A rule that a proposal breaks. rule: its name. said: what was found."""

    rule: str
    said: str


def check_text(text: str, script: str, rules: GateRules) -> Iterator[BrokenRule]:
    """Rules that a text (NFC) breaks by itself, whatever its input is."""
    flags = proposal_flags.find_flags(Proposal(text), "")
    if not text.strip():
        yield BrokenRule("empty", TEXT_RULES["empty"])
    if found := _character_faults(text):
        yield BrokenRule("characters", found)
    if script not in SCRIPTS:
        yield BrokenRule("script", f"there are no rules for the script '{script}'")
    else:
        letters = _letters(text)
        own = sum(_is_letter_of(letter, script) for letter in letters)
        if own * 100 < rules.own_script_percent * len(letters):
            least = f"the limit is {rules.own_script_percent} %"
            yield BrokenRule("script", f"{own} of {len(letters)} letters are {script}; {least}")
    flagged = (rule for rule in ("loop", "special_token", "prompt_echo") if rule in flags)
    yield from (BrokenRule(rule, TEXT_RULES[rule]) for rule in flagged)


def check_change(asked: str, text: str, script: str, rules: GateRules) -> Iterator[BrokenRule]:
    """Rules that replacing `asked` with `text` breaks (both NFC, trimmed)."""
    foreign = _foreign_letters(text, script) - _foreign_letters(asked, script)
    if foreign:
        yield BrokenRule("new_script", f"new: {_code_points(''.join(foreign))}")
    if text.count(LAJANYALAN) > asked.count(LAJANYALAN):
        yield BrokenRule("stretching", CHANGE_RULES["stretching"])
    if Counter(_SPACING.findall(text)) - Counter(_SPACING.findall(asked)):
        yield BrokenRule("spacing", CHANGE_RULES["spacing"])
    was, now = _digits_and_punctuation(asked, script), _digits_and_punctuation(text, script)
    if was != now:
        yield BrokenRule("figures", f"{_quoted(was)} became {_quoted(now)}")
    if fault := _length_fault(len(asked), len(text), rules):
        yield BrokenRule("length", fault)
    # words of other scripts have no violations: rows of Latin pass
    if rules.syllables == "no-worse" and (now := count_violations(text)) > (was := count_violations(asked)):
        yield BrokenRule("syllables", f"{now} violations of syllable structure; the input has {was}")


def check_spans(asked: str, text: str, spans: Sequence[tuple[int, int]], slack: int) -> Iterator[BrokenRule]:
    """The rule `spans`, where a text is changed outside its spans: code points [start, end), widened by `slack`.

    The text outside the spans must occur in the proposal in its order; this needs no choice among alignments.
    """
    if not _contains_in_order(text, _outside_spans(asked, spans, slack)):
        yield BrokenRule("spans", f"edits outside the {len(spans)} given spans and {slack} code points around them")


def _outside_spans(asked: str, spans: Sequence[tuple[int, int]], slack: int) -> list[str]:
    """The pieces of a text around its widened spans: one more than the number of separate spans."""
    pieces, place = [], 0
    for start, end in sorted((max(0, start - slack), min(len(asked), end + slack)) for start, end in spans):
        if start > place or not pieces:
            pieces.append(asked[place:start])
        place = max(place, end)
    return [*pieces, asked[place:]]


def _contains_in_order(text: str, pieces: Sequence[str]) -> bool:
    """Whether a text consists of these pieces in their order, with any text between them."""
    if len(pieces) == 1:
        return text == pieces[0]
    first, *middle, last = pieces
    at, end = len(first), len(text) - len(last)
    if at > end or not (text.startswith(first) and text.endswith(last)):
        return False
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def _character_faults(text: str) -> str:
    """The forbidden characters of a text; empty where there are none."""
    found = [str(fault) for fault in normalize.text_faults(text) if fault.kind not in _NO_FAULTS]
    banned = {each for each in text if unicodedata.category(each) in _CATEGORIES} | set(_INVISIBLE.findall(text))
    if banned:
        found.append(_code_points("".join(sorted(banned))))
    return ", ".join(found[:4])


def _letters(text: str) -> list[str]:
    """The letters of a text; an apostrophe does not count, although Unicode has one that is a letter."""
    return [each for each in text if unicodedata.category(each)[0] == "L" and each not in LATIN_APOSTROPHES]


def _is_letter_of(letter: str, script: str) -> bool:
    if script == "nko":
        return "\u07c0" <= letter <= "\u07ff"
    return unicodedata.name(letter, "").startswith("LATIN")


def _foreign_letters(text: str, script: str) -> Counter[str]:
    return Counter(letter for letter in _letters(text) if not _is_letter_of(letter, script))


def _digits_and_punctuation(text: str, script: str) -> str:
    """Digits, punctuation and symbols in their order; in Latin text an apostrophe belongs to its word."""
    apart = LATIN_APOSTROPHES if script == "latin" else ""
    return "".join(each for each in text if unicodedata.category(each)[0] in "NPS" and each not in apart)


def _quoted(text: str) -> str:
    """A text as a reason quotes it, cut so that a long proposal does not fill the log."""
    return repr(text if len(text) <= QUOTED_CHARS else text[:QUOTED_CHARS] + "\u2026")


def _length_fault(was: int, now: int, rules: GateRules) -> str:
    if was < rules.short_text:
        fine = abs(now - was) <= rules.short_difference
        return "" if fine else f"{was} code points became {now}; the difference may be at most {rules.short_difference}"
    fine = was * rules.shortest_percent <= now * 100 <= was * rules.longest_percent
    allowed = f"allowed are {rules.shortest_percent} to {rules.longest_percent} %"
    return "" if fine else f"{was} code points became {now}; allowed are {allowed}"


def _code_points(characters: str) -> str:
    shown = " ".join(f"U+{ord(each):04X}" for each in characters[:8])
    return f"{shown}{' ...' if len(characters) > 8 else ''}"
