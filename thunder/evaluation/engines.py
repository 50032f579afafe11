"""Who proposes: engines that need no model, and what every engine answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from thunder import digest
from thunder.corpora.rows.chat_rows import ID_FIELDS
from thunder.errors import CorpusError, combined_error
from thunder.evaluation.cases import Case

PROPOSAL_KEYS = ("proposal", "prediction", "prediction_after")
LARGEST, ROUNDING = 1e300, 1e-3  # of a number in a file; by which a log-probability may be above 0


@dataclass(frozen=True)
class Proposal:
    """What an engine says a text should be.

    confidence: mean log-probability of its tokens, the end's included (nats), where there is one. tokens: how many were
    generated. finished: it came to an end by itself. special_only: nothing but pads and other special tokens came.
    accepted: whether it takes the input's place; a gate behind the engine may have said no.
    windows: in how many pieces the input was corrected. margin: how much likelier than leaving the input alone the same
    model finds it, in nats per code point of the input, where that was asked for.
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
    """Tells nobody."""


class ProposalEngine(Protocol):
    """Proposals for cases, in their order. chunk: how many cases are best given at once."""

    chunk: int

    def propose(self, cases: Sequence[Case], finished: OnFinished = ignore_progress) -> Iterator[Proposal]:
        """One proposal for each case; `finished` is told now and then how many more are done, and may raise to stop."""
        ...

    def describe(self) -> dict[str, Any]:
        """What decides its answers, by name, as JSON types: a half-done evaluation goes on with the same only."""
        ...


class IdentityEngine:
    """Proposes the input: what leaving alone is worth."""

    chunk = 1024

    def propose(self, cases: Sequence[Case], finished: OnFinished = ignore_progress) -> Iterator[Proposal]:
        """See Engine."""
        return (Proposal(case.input) for case in cases)

    def describe(self) -> dict[str, Any]:
        """See Engine."""
        return {"engine": "identity"}


class OracleEngine:
    """Proposes the reference: the most that repairing could be worth."""

    chunk = 1024

    def propose(self, cases: Sequence[Case], finished: OnFinished = ignore_progress) -> Iterator[Proposal]:
        """See Engine."""
        return (Proposal(case.reference) for case in cases)

    def describe(self) -> dict[str, Any]:
        """See Engine."""
        return {"engine": "oracle"}


class FileEngine:
    """Proposals that somebody else made: a line of JSON each, with the row's id and `proposal`.

    A `proposal` that is null leaves the input as it is and is not counted as accepted; neither is one beside
    `"accepted": false`, though what taking it would have done is counted. `confidence` and `margin` are those of
    Proposal.
    """

    chunk = 1024

    def __init__(self, path: Path, wanted: frozenset[str] | None) -> None:
        """Read the file and see that it has each wanted id once and no other; None: nobody knows yet what is wanted.

        Raises CorpusError that lists the lines that cannot be used and the ids that are missing, twice or unknown.
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
        faults += [f"{path}: id '{row_id}' stands {count} times" for row_id, count in numbers.items() if count > 1]
        if wanted is not None:
            faults += [f"{path}: id '{row_id}' is none of the rows'" for row_id in numbers if row_id not in wanted]
            faults += [f"{path}: no proposal for id '{row_id}'" for row_id in sorted(wanted) if row_id not in numbers]
        if faults:
            raise combined_error(CorpusError, f"{path} cannot be used:", faults, fix="one line for each row, by its id")

    def propose(self, cases: Sequence[Case], finished: OnFinished = ignore_progress) -> Iterator[Proposal]:
        """See Engine."""
        for case in cases:
            yield self._proposals.get(case.row_id) or Proposal(case.input, accepted=False)

    def describe(self) -> dict[str, Any]:
        """See Engine."""
        return {"engine": "file", "proposals_sha256": self.sha256}


def _parse_line(line: bytes, name: str) -> tuple[str, Proposal | None]:
    """The id and the proposal on a line; name: its id where it says none. Raises ValueError that says what is wrong."""
    try:
        fields = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ValueError("not an object")
    row_id = next((fields[key] for key in ID_FIELDS if isinstance(fields.get(key), str) and fields[key]), name)
    key = next((key for key in PROPOSAL_KEYS if key in fields), None)
    if key is None:
        raise ValueError(f"no proposal: none of {', '.join(PROPOSAL_KEYS)}")
    text, accepted = fields[key], fields.get("accepted", True)
    if text is None:
        return row_id, None
    if not isinstance(text, str):
        raise ValueError(f"'{key}' is no text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"'{key}': character {error.start + 1} is half of a surrogate pair") from None
    if not isinstance(accepted, bool):
        raise ValueError("'accepted' is neither true nor false")
    confidence, margin = (_finite_number(fields, name) for name in ("confidence", "margin"))
    if confidence is not None and confidence > ROUNDING:
        raise ValueError(f"'confidence' is {confidence:g}; a mean log-probability of tokens (nats) is never above 0")
    return row_id, Proposal(text, confidence, accepted=accepted, margin=margin)


def _finite_number(fields: dict[str, Any], name: str) -> float | None:
    """A finite number among fields, or None where there is none. Raises ValueError."""
    value = fields.get(name)
    if value is None:
        return None
    # whole numbers of JSON can be too large for any float
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        raise ValueError(f"'{name}' is no number")
    return value
