"""JSONL lines: each one is read in bounded memory, and faults are listed and counted."""

import json
import random

import pytest
from planted_rows import GOOD

from thunder.corpora.rows import jsonl_lines as lines_module
from thunder.corpora.rows.correction_rows import CorrectionReader


def test_garbage_is_refused_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(lines_module, "LONGEST_LINE", 1 << 12)
    path = tmp_path / "garbage.jsonl"
    path.write_bytes(random.Random(0).randbytes(200_000) + b"\n" + b"x" * 100_000 + b"\n" + json.dumps(GOOD).encode())
    reader = CorrectionReader()
    assert [row["feat_id"] for row in reader.file(path)] == ["f1"]
    assert reader.faults.count > 100 and len(reader.faults.first) == 20
    assert any("is 100001 bytes long" in fault for fault in _all_faults(path))


def _all_faults(path):
    reader = CorrectionReader()
    reader.faults.first = _Endless()
    list(reader.file(path))
    return list(reader.faults.first)


class _Endless(list):
    def __len__(self):
        return 0


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
