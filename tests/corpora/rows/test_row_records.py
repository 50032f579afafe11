"""Rows of every kind of file: the same objects, with their numbers, digests and faults."""

import gzip
import json
import sys
import types

import pytest

from thunder.corpora.rows.field_mapping import FieldMapping
from thunder.corpora.rows.jsonl_lines import LineFaults
from thunder.corpora.rows.row_records import RowRecords
from thunder.errors import CorpusError

ROWS = [{"id": "1", "hyp": 'ߓ "a", b', "ref": "ߓߊ"}, {"id": "2", "hyp": "", "ref": "ߕߊ"}]


def read(path, **options):
    faults = LineFaults()
    records = RowRecords(path, faults, **options)
    return list(records), faults.first, records


@pytest.mark.parametrize(("name", "content", "form", "numbers"), [
    ("a.jsonl", "\n".join(json.dumps(row) for row in ROWS), "JSONL", [1, 2]),
    ("a.json", json.dumps(ROWS, indent=2), "JSON array", [1, 2]),
    ("a.json", "\ufeff\n [" + json.dumps(ROWS)[1:], "JSON array", [1, 2]),
    ("a.csv", 'id,hyp,ref\n1,"ߓ ""a"", b",ߓߊ\n2,,ߕߊ\n', "CSV", [2, 3]),
    ("a.csv", 'id;hyp;ref\r\n1;"ߓ ""a"", b";ߓߊ\r\n2;;ߕߊ\r\n', "CSV", [2, 3]),
    ("a.csv", '\ufeffid\thyp\tref\n1\tߓ "a", b\tߓߊ\n2\t\tߕߊ\n', "CSV", [2, 3]),
    ("a.tsv", 'id\thyp\tref\n1\tߓ "a", b\tߓߊ\n2\t\tߕߊ', "TSV", [2, 3]),
    ("a.csv", "\n".join(json.dumps(row) for row in ROWS), "JSONL", [1, 2]),
])  # fmt: skip
def test_one_set_of_rows_in_every_form(tmp_path, name, content, form, numbers):
    for path, data in ((tmp_path / name, content.encode()), (tmp_path / f"{name}.gz", gzip.compress(content.encode()))):
        path.write_bytes(data)
        rows, faults, records = read(path)
        assert [row for _, row in rows] == ROWS and faults == []
        assert (records.form, [number for number, _ in rows], records.bytes) == (form, numbers, len(data))


def test_cells_have_the_types_of_the_fields(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('feat_id,audio_id,cer_edits,trajectory_scalars,note\n07,,3,"{""a"": 1.5}",\n1,x,many,,\n')
    rows, faults, _ = read(path)
    assert rows == [
        (2, {"feat_id": "07", "audio_id": None, "cer_edits": 3, "trajectory_scalars": {"a": 1.5}, "note": ""})
    ]
    assert faults == [f"{path}:3: 'cer_edits' is 'many', not a number or an object"]


def test_a_cell_may_hold_line_ends(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('hyp,ref\n"a\nb",c\nd,e\n')
    assert [row["hyp"] for _, row in read(path)[0]] == ["a\nb", "d"]


def test_blank_lines_and_short_rows_of_a_table(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("hyp,ref\n\na,b\nc\n")
    rows, faults, records = read(path)
    assert len(rows) == 1 and records.notes["blank lines"] == 1
    assert faults == [f"{path}:4: has 1 cells, but the header has 2"]


def test_a_table_that_is_not_utf8(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("hyp,ref\né,b\n".encode("latin-1"))
    with pytest.raises(CorpusError, match="is not UTF-8"):
        read(path)


def test_an_element_that_is_no_object(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1}, 3]')
    rows, faults, _ = read(path)
    assert rows == [(1, {"a": 1})] and faults == [f"{path}:2: expected an object in the array, found a number"]


def test_sound_rows_only_where_asked(tmp_path):
    for name, content in (("a.json", '[{"a": NaN}]'), ("a.jsonl", '{"a": NaN}')):
        (tmp_path / name).write_text(content)
        assert len(read(tmp_path / name)[0]) == 1
        rows, faults, _ = read(tmp_path / name, sound=True)
        assert rows == [] and "'a' has a number that is not finite" in faults[0]


def test_fields_are_renamed_and_ids_are_texts(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"key": 7, "asr": {"text": "a"}, "gold": "b"}\n{"id": [1]}\n')
    rows, faults, _ = read(path, mapping=FieldMapping({"hyp": "asr.text", "ref": "gold", "id": "key"}))
    assert rows == [(1, {"asr": {"text": "a"}, "hyp": "a", "ref": "b", "id": "7"})]
    assert faults == [f"{path}:2: 'id' is [1], not a text or a whole number"]


@pytest.mark.parametrize(("content", "kind"), [
    ("hyp,ref\na,b\n", "is CSV with the columns hyp, ref"), ("hyp\tref\na\tb\n", "is tab-separated text"),
    ("one\ntwo\n", "is plain text"), ('{\n "a": 1\n}\n', "is JSON over several lines"),
])  # fmt: skip
def test_other_text_is_one_message(tmp_path, content, kind):
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(CorpusError, match=kind):
        read(path)


def test_a_file_of_faults_stays_a_list_of_faults(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1\n3\n')
    assert len(read(path)[1]) == 2


def test_parquet_without_its_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and more")
    with pytest.raises(CorpusError, match="is Parquet, which is read only with the package pyarrow") as caught:
        read(path)
    assert "duckdb -c" in caught.value.fix and "install pyarrow" in caught.value.fix


def test_parquet_batches_become_rows(tmp_path, monkeypatch):
    """Against a stand-in; `test_parquet_is_read` reads a real file where the package is installed."""

    class File:
        def __init__(self, path):
            assert path.name == "a.parquet"

        def iter_batches(self):
            return [types.SimpleNamespace(to_pylist=lambda row=row: [dict(row)]) for row in ROWS]

    parquet = types.SimpleNamespace(ParquetFile=File)
    monkeypatch.setitem(sys.modules, "pyarrow", types.SimpleNamespace(ArrowException=RuntimeError, parquet=parquet))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", parquet)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and more")
    rows, faults, records = read(tmp_path / "a.parquet")
    assert rows == [(1, ROWS[0]), (2, ROWS[1])] and faults == []
    assert (records.form, records.bytes) == ("Parquet", 13)


def test_parquet_is_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([row | {"id": int(row["id"])} for row in ROWS]), path)
    assert [row for _, row in read(path)[0]] == ROWS
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorpusError, match="is damaged"):
        read(path)
