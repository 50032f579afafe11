"""JSONL lines: each one is read in bounded memory, and faults are listed and counted."""

import json
import random

import pytest
from planted_rows import GOOD

from thunder.corpora.rows import jsonl_lines as lines_module
from thunder.corpora.rows.correction_rows import CorrectionReader
from thunder.corpora.rows.jsonl_lines import LineFault, LineFaults, json_object


def test_garbage_is_refused_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(lines_module, "LONGEST_LINE", 1 << 12)
    path = tmp_path / "garbage.jsonl"
    path.write_bytes(random.Random(0).randbytes(200_000) + b"\n" + b"x" * 100_000 + b"\n" + json.dumps(GOOD).encode())
    reader = CorrectionReader()
    assert [row["feat_id"] for row in reader.file(path)] == ["f1"]
    assert reader.faults.count > 100 and len(reader.faults.first) == 20
    assert any("is 100001 bytes long" in fault for fault in _all_faults(path))


def _all_faults(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "FAULTS_LISTED", 1 << 20)
        reader = CorrectionReader()
        list(reader.file(path))
        return reader.faults.first


def test_lines_with_one_reason_are_one_fault_with_their_numbers(tmp_path):
    faults = LineFaults()
    for number in range(1, 8):
        faults.add_line(tmp_path / "rows.jsonl", number, LineFault("is odd", fix="make it even"))
    faults.add(f"{tmp_path / 'rows.jsonl'}:9: is cut off")
    error = faults.error("cannot be used:", fix="look")
    path = tmp_path / "rows.jsonl"
    assert error.message.splitlines() == [
        "cannot be used:", f"  {path}:1: is odd (also lines 2, 3, 4 and 3 more)", f"  {path}:9: is cut off"
    ]  # fmt: skip
    assert error.fix == "make it even" and faults.count == 8


def test_a_key_that_occurs_twice_is_a_fault():
    for line in (b'{"hyp": "a", "ref": "b", "hyp": "c"}', b'{"a": {"hyp": 1, "hyp": 1}}'):
        with pytest.raises(LineFault, match="the key 'hyp' occurs more than once"):
            json_object(line)


@pytest.mark.slow
def test_a_line_of_200_mb_is_never_held(tmp_path):
    import resource

    path = tmp_path / "long.jsonl"
    with path.open("wb") as stream:
        for _ in range(200):
            stream.write(b"x" * 1_000_000)
        stream.write(b"\n" + json.dumps(GOOD).encode() + b"\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader = CorrectionReader()
    assert len(list(reader.file(path))) == 1
    assert "is 200000001 bytes long" in reader.faults.first[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
