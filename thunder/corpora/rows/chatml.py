"""Make the chat messages of a correction row: the prompt, with the recognizer's metadata, and the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thunder.corpora.rows.correction_rows import UNKNOWN
from thunder.text.chat import correction_messages, correction_prompt


def chatml_prompt(row: Mapping[str, Any]) -> str:
    """Return the user's turn: partition, sigils and trajectory, a line each where known, then the correction prompt.

    A row of which only the text is known gets the plain prompt, so that one model answers both. The text comes last.
    """
    return "".join(f"{line}\n" for line in _context_lines(row)) + correction_prompt(row["asr_text"])


def chatml_messages(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a correction row as chat messages: the prompt and the reference text (NFC)."""
    question, answer = correction_messages(row["asr_text"], row["reference_text"])
    if known := _context_lines(row):
        question = question | {"content": "".join(f"{line}\n" for line in known) + question["content"]}
    return [question, answer]


def _context_lines(row: Mapping[str, Any]) -> list[str]:
    lines = []
    if (partition := row.get("partition") or UNKNOWN) != UNKNOWN:
        lines.append(f"Partition: {partition}")
    if sigils := row.get("sigils"):
        lines.append(f"Sigils: {' '.join(map(str, sigils if isinstance(sigils, list) else str(sigils).split()))}")
    if scalars := row.get("trajectory_scalars"):
        lines.append(f"Trajectory: {', '.join(f'{name} {value:.3g}' for name, value in sorted(scalars.items()))}")
    return lines
