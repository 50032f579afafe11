"""Proposals, the protocol of the engines that make them, and the engines that need no model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from thunder import digest
from thunder.errors import CorpusError, combined_error
from thunder.evaluation.cases import Case
from thunder.text import row_fields

PROPOSAL_KEYS = ("proposal", "prediction", "prediction_after")
LARGEST, ROUNDING = 1e300, 1e-3  # of a number in a file; by which a log-probability may be above 0


@dataclass(frozen=True)
class Proposal:
    """The corrected text that an engine proposes.

    confidence: mean log-probability of its tokens, with the end token (nats), where known. tokens: number of generated
    tokens. finished: whether the answer ended with an end token. special_only: whether it has only padding and other
    special tokens. accepted: whether it replaces the input; a gate behind the engine may reject it. windows: number of
    chunks of the input. margin: by how much the model finds the proposal likelier than the unchanged input, in nats per
    code point of the input, where it was scored.
    """

    text: str
    confidence: float | None = None
    seconds: float = 0.0
    tokens: int = 0
    finished: bool = True
    special_only: bool = False
    accepted: bool = True
    windows: int = 1
    margin: float | None = None


OnFinished = Callable[[int], None]


def ignore_progress(count: int) -> None:
    """Do nothing."""


class ProposalEngine(Protocol):
    """Makes proposals for cases, in their order. chunk: the number of cases of one call that is efficient."""

    chunk: int

    def propose(self, cases: Sequence[Case], finished: OnFinished = ignore_progress) -> Iterator[Proposal]:
        """One proposal for each case. `finished` is called with the number of newly finished cases; it may raise."""
        ...

    def describe(self) -> dict[str, Any]:
        """Everything that determines the proposals, as JSON. An interrupted evaluation resumes only if it is equal."""
        ...


class IdentityEngine:
    """Proposes the input unchanged: the baseline of every evaluation."""

    chunk = 1024

    def propose(self, cases: Sequence[Case], finished: OnFinished = ignore_progress) -> Iterator[Proposal]:
        """See ProposalEngine."""
        return (Proposal(case.input) for case in cases)

    def describe(self) -> dict[str, Any]:
        """See ProposalEngine."""
        return {"engine": "identity"}


class OracleEngine:
    """Proposes the reference: the upper limit of every evaluation."""

    chunk = 1024

    def propose(self, cases: Sequence[Case], finished: OnFinished = ignore_progress) -> Iterator[Proposal]:
        """See ProposalEngine."""
        return (Proposal(case.reference) for case in cases)

    def describe(self) -> dict[str, Any]:
        """See ProposalEngine."""
        return {"engine": "oracle"}


class FileEngine:
    """Proposals from a file: a line of JSON each, with the id of the row and `proposal`.

    A `proposal` that is null leaves the input unchanged and does not count as accepted. A proposal with
    `"accepted": false` does not count as accepted either, but its effect is counted. `confidence` and `margin` are
    those of Proposal.
    """

    chunk = 1024

    def __init__(self, path: Path, row_ids: frozenset[str] | None) -> None:
        """Read the file, and check that it has each row id once and no other. row_ids: None if they are unknown.

        Raises CorpusError that lists the lines that are not valid, and ids that are missing, repeated or unknown.
        """
        self.path = path
        self._proposals: dict[str, Proposal | None] = {}
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CorpusError(f"{path}: {error.strerror or error}", fix="--engine file:PATH of a JSONL file") from None
        self.sha256 = digest.sha256_bytes(data)
        faults, numbers = [], Counter()
        for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                row_id, proposal = _parse_line(line, f"{path.stem}-{number}")
            except ValueError as fault:
                faults.append(f"{path}:{number}: {fault}")
                continue
            numbers[row_id] += 1
            self._proposals[row_id] = proposal
        faults += [f"{path}: id '{row_id}' occurs {count} times" for row_id, count in numbers.items() if count > 1]
        if row_ids is not None:
            faults += [f"{path}: no row has the id '{row_id}'" for row_id in numbers if row_id not in row_ids]
            faults += [f"{path}: no proposal for id '{row_id}'" for row_id in sorted(row_ids) if row_id not in numbers]
        if faults:
            raise combined_error(CorpusError, f"{path} cannot be used:", faults, fix="one line for each row, by its id")

    def propose(self, cases: Sequence[Case], finished: OnFinished = ignore_progress) -> Iterator[Proposal]:
        """See ProposalEngine."""
        for case in cases:
            yield self._proposals.get(case.row_id) or Proposal(case.input, accepted=False)

    def describe(self) -> dict[str, Any]:
        """See ProposalEngine."""
        return {"engine": "file", "proposals_sha256": self.sha256}


def _parse_line(line: bytes, name: str) -> tuple[str, Proposal | None]:
    """The id and the proposal of a line. name: the id where the line has none. Raises ValueError with the fault."""
    try:
        fields = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ValueError("not an object")
    row_id = row_fields.row_id(fields, name)
    key = next((key for key in PROPOSAL_KEYS if key in fields), None)
    if key is None:
        raise ValueError(f"no proposal: none of {', '.join(PROPOSAL_KEYS)}")
    text, accepted = fields[key], fields.get("accepted", True)
    if text is None:
        return row_id, None
    if not isinstance(text, str):
        raise ValueError(f"'{key}' is not a text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"'{key}': character {error.start + 1} is half of a surrogate pair") from None
    if not isinstance(accepted, bool):
        raise ValueError("'accepted' is neither true nor false")
    confidence, margin = (_finite_number(fields, name) for name in ("confidence", "margin"))
    if confidence is not None and confidence > ROUNDING:
        raise ValueError(f"'confidence' is {confidence:g}; a mean log-probability of tokens (nats) must not be above 0")
    return row_id, Proposal(text, confidence, accepted=accepted, margin=margin)


def _finite_number(fields: dict[str, Any], name: str) -> float | None:
    """A finite number of the fields, or None where it is absent. Raises ValueError."""
    value = fields.get(name)
    if value is None:
        return None
    # whole numbers of JSON can exceed every float
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        raise ValueError(f"'{name}' is not a finite number")
    return value
