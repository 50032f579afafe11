"""Half-done evaluations: cut off anywhere they end in the same files; a changed fingerprint is refused by name."""

from __future__ import annotations

import pytest

from thunder.errors import ArtifactError, UsageError
from thunder.evaluation.engines import Proposal
from thunder.evaluation.proposal_ledger import PARTIAL_FILE, ProposalLedger, read_stored_settings

PAIRS = [(Proposal(f"ߊ{n}", -0.5, 0.1, n), Proposal("b") if n % 2 else None) for n in range(4)]


def begun(folder, pairs=PAIRS, **fingerprint):
    ledger = ProposalLedger(folder, {"rows": "r"}, {"a": 1} | fingerprint)
    ledger.append(pairs)
    ledger.close()


def opened(folder, **fingerprint):
    ledger = ProposalLedger(folder, {}, {"a": 1} | fingerprint)
    ledger.close()
    return ledger.pairs


def test_proposals_come_back(tmp_path):
    begun(tmp_path / "new" / "folder")
    assert opened(tmp_path / "new" / "folder") == PAIRS
    assert read_stored_settings(tmp_path / "new" / "folder") == {"rows": "r"}


@pytest.mark.expensive
def test_cut_off_at_every_byte_of_its_last_lines(tmp_path):
    begun(tmp_path)
    whole = (tmp_path / PARTIAL_FILE).read_bytes()
    header = whole.index(b"\n") + 1
    for length in range(header, len(whole) + 1):
        (tmp_path / PARTIAL_FILE).write_bytes(whole[:length])
        pairs = opened(tmp_path)
        assert pairs == PAIRS[: whole[header:length].count(b"\n")]
        begun(tmp_path, PAIRS[len(pairs) :])
        assert opened(tmp_path) == PAIRS


def test_a_changed_fingerprint_is_named(tmp_path):
    begun(tmp_path, rows_sha256="x", gone=2)
    with pytest.raises(UsageError) as error:
        opened(tmp_path, rows_sha256="y", new=3)
    for words in ("rows_sha256 was 'x' and is 'y'", "gone was 2 and is None", "new was None and is 3"):
        assert words in error.value.message
    assert "a was" not in error.value.message


@pytest.mark.parametrize("data, where", [
    (b"", "the first line is not that of an evaluation"),
    (b"[]\n", "the first line is not that of an evaluation"),
    (b"{\n", "the first line is not that of an evaluation"),
    (b'{"evaluation": 1, "settings": {}, "ground": {"a": 1}}\nxx\n', f"{PARTIAL_FILE}:2: "),
    (b'{"evaluation": 1, "settings": {}, "ground": {"a": 1}}\n[{"other": 1}, null]\n', f"{PARTIAL_FILE}:2: "),
])  # fmt: skip
def test_a_damaged_ledger_is_refused(tmp_path, data, where):
    (tmp_path / PARTIAL_FILE).write_bytes(data)
    with pytest.raises(ArtifactError, match=where):
        opened(tmp_path)


def test_without_one_there_is_nothing_to_go_on_with(tmp_path):
    with pytest.raises(UsageError, match="no unfinished evaluation"):
        read_stored_settings(tmp_path)
