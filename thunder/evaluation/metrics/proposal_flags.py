"""Typical faults of proposals that need no reference, by name."""

from __future__ import annotations

import re

from thunder.evaluation.engines import Proposal
from thunder.text import distance
from thunder.text.chat import CORRECTION_INSTRUCTION
from thunder.text.normalize import normalize_text

# name: description for the report
FLAGS = {
    "empty": "no text at all",
    "pad_only": "only padding and other special tokens",
    "loop": "a piece of two characters or more at least four times in a row",
    "prompt_echo": "the instruction of the prompt in the answer",
    "special_token": "the text of a special token in the answer",
    "unfinished": "cut off at the limit of tokens",
    "longer": "more than 1.25 times as long as the input (and 3 characters longer)",
    "rewritten": "edits in more than half of the input's characters",
}
REWRITTEN_SHARE = 0.5
_LONGEST_UNIT = 64
# a run of blanks is one gap and not a loop
_LOOP = re.compile(rf"(?!\s\s)(.{{2,{_LONGEST_UNIT}}}?)\1{{3,}}", re.DOTALL)
_SPECIAL = re.compile(r"<(?:pad|unk|s|/s|bos|eos|mask|unused\d+|\|?turn\|?|start_of_turn|end_of_turn|0x[0-9A-F]{2})>")


def find_flags(proposal: Proposal, asked: str) -> list[str]:
    """The names of FLAGS that a proposal for a text raises; a loop that the text itself has does not count."""
    text, input_text = normalize_text(proposal.text).strip(), normalize_text(asked).strip()
    edits = distance.edit_distance(text, input_text)
    without = _SPECIAL.sub("", text).strip()
    holds = {
        "empty": not text,
        "pad_only": proposal.special_only or bool(text and not without),
        "loop": has_loop(text) and not has_loop(input_text),
        "prompt_echo": CORRECTION_INSTRUCTION in text,
        "special_token": without != text,
        "unfinished": not proposal.finished,
        "longer": len(text) > max(1.25 * len(input_text), len(input_text) + 3),
        "rewritten": edits > REWRITTEN_SHARE * max(1, len(input_text)),
    }
    return [name for name in FLAGS if holds[name]]


def has_loop(text: str) -> bool:
    """Whether a piece of at least two characters occurs four times in a row."""
    return bool(_LOOP.search(text))
