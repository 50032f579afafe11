"""Rows of JSON lines, gzip, JSON arrays and tables; other formats are named with the way out."""

from __future__ import annotations

import gzip
import json

import pytest

from thunder.acoustic.manifests.manifest_rows import read_manifest
from thunder.corpora.rows.jsonl_lines import LineFaults
from thunder.errors import CorpusError

ROWS = [{"audio": "a.wav", "text": "ߞ, ߏ"}, {"audio": "b.wav", "text": 'a "b"'}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
FILES = {
    "rows.jsonl": LINES.encode(),
    "rows.jsonl.gz": gzip.compress(LINES.encode()),
    "rows.json": json.dumps(ROWS).encode(),
    "rows.csv": 'audio,text\na.wav,"ߞ, ߏ"\nb.wav,"a ""b"""\n'.encode(),
    "bom.csv": '\ufeffaudio,text\r\na.wav,"ߞ, ߏ"\r\nb.wav,"a ""b"""\r\n'.encode(),
    "rows.tsv": 'audio\ttext\na.wav\tߞ, ߏ\nb.wav\ta "b"\n'.encode(),
}


def read(path):
    faults = LineFaults()
    return [fields for _, fields in read_manifest(path, faults)], faults


@pytest.mark.parametrize("name", FILES)
def test_one_table_in_every_format(name, tmp_path):
    (tmp_path / name).write_bytes(FILES[name])
    rows, faults = read(tmp_path / name)
    assert rows == ROWS and not faults


def test_rows_that_are_none_are_faults_with_their_line(tmp_path):
    (tmp_path / "a.csv").write_text("audio,text\na.wav\nb.wav,x\n")
    (tmp_path / "b.json").write_text('[{"audio": "a.wav"}, 3]')
    rows, faults = read(tmp_path / "a.csv")
    assert rows == [{"audio": "b.wav", "text": "x"}] and "a.csv:2: has 1 cells, the header has 2" in faults.first[0]
    rows, faults = read(tmp_path / "b.json")
    assert len(rows) == 1 and "b.json: row 2: is a number, not an object" in faults.first[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"PAR1", "is parquet, which is not read"),
        ("cuts.yaml", b"- id: a", "is yaml, which is not read"),
        ("a.csv", "audio,text\n".encode("utf-16"), "not a table in UTF-8"),
        ("a.csv", b"audio,audio\n", "names a column twice"),
        ("a.jsonl.gz", b"not gzip", "cannot be read"),
        ("a.json", b"[{", "damaged JSON array"),
    ],
)
def test_a_file_in_another_format_is_named(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as error:
        read(tmp_path / name)
    assert error.value.fix


def test_a_manifest_that_is_not_there(tmp_path):
    for name in ("none.csv", "none.jsonl", "none.jsonl.gz"):
        with pytest.raises(CorpusError, match="No such file"):
            read(tmp_path / name)
