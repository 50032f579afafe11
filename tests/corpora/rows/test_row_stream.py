"""The bytes of a file: digested as they lie there, decompressed, and refused by name where they are of another kind."""

import gzip
import hashlib
import importlib.util
import shutil
import subprocess

import pytest

from thunder.corpora.rows import row_stream
from thunder.corpora.rows.row_stream import open_rows
from thunder.errors import CorpusError

TEXT = "ߒ ߞߊ߲߫\n".encode() * 5000


def read(path, progress=None):
    with open_rows(path, progress) as opened:
        content = opened.stream.read()
        return content, opened.finish(), opened.bytes, opened.kind


@pytest.mark.parametrize(
    ("name", "pack"), [("a.tsv", bytes), ("a.tsv.gz", gzip.compress), ("a.csv.zst.gz", gzip.compress)]
)
def test_the_digest_is_that_of_the_file_and_the_kind_that_of_what_is_inside(tmp_path, name, pack):
    path = tmp_path / name
    path.write_bytes(pack(TEXT))
    content, sha256, size, kind = read(path)
    assert content == TEXT and kind == path.name[1:5]
    assert (sha256, size) == (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)


def test_the_digest_covers_what_the_reader_left(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(TEXT)
    with open_rows(path) as opened:
        opened.stream.read(1)
        assert opened.finish() == hashlib.sha256(TEXT).hexdigest()


def test_progress_counts_every_byte_once(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(TEXT * 10)
    steps = []
    read(path, steps.append)
    assert sum(steps) == len(TEXT) * 10 and len(steps) > 2


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs the program zstd")
def test_zstandard_is_read_or_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(TEXT)
    subprocess.run(["zstd", "-q", str(path)], check=True, timeout=20)
    packed = tmp_path / "a.jsonl.zst"
    if any(importlib.util.find_spec(name.partition(".")[0]) for name in ("compression", row_stream.ZSTD_PACKAGE)):
        assert read(packed)[0] == TEXT
        packed.write_bytes(packed.read_bytes()[:-9])
        with pytest.raises(CorpusError, match="is damaged or cut off"):
            read(packed)
    else:
        with pytest.raises(CorpusError, match="is Zstandard, which this Python reads only with the package") as caught:
            read(packed)
        assert caught.value.fix.startswith("zstd -d ")


def test_zstandard_without_its_package_is_named(tmp_path, monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(row_stream.importlib, "import_module", absent)
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(row_stream.ZSTD + b"rest")
    with pytest.raises(CorpusError, match="is Zstandard") as caught:
        read(path)
    assert caught.value.fix.startswith("zstd -d ") and "install" in caught.value.fix


@pytest.mark.parametrize(("content", "encoding"), [
    ('{"a": 1}\n'.encode("utf-16"), "UTF-16"), ('{"a": 1}\n'.encode("utf-16-le"), "UTF-16LE"),
    ('{"a": 1}\n'.encode("utf-16-be"), "UTF-16BE"), ('{"a": 1}\n'.encode("utf-32"), "UTF-32"),
])  # fmt: skip
def test_other_encodings_are_named_with_the_command(tmp_path, content, encoding):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        read(path)
    assert caught.value.message == f"{path}: is {encoding}, not UTF-8"
    assert f"iconv -f {encoding} -t UTF-8" in caught.value.fix
    # the command is right
    assert content.decode(encoding) == '{"a": 1}\n'


def test_carriage_returns_alone_are_named_but_for_tables(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\r{"a": 2}\r')
    with pytest.raises(CorpusError, match="line ends are CR"):
        read(path)
    assert read(path.rename(tmp_path / "a.csv"))[0].count(b"\r") == 2


@pytest.mark.parametrize("first", list(row_stream.FOREIGN))
def test_files_of_other_kinds_are_named(tmp_path, first):
    path = tmp_path / "a.jsonl"
    path.write_bytes(first + b"\x00rest\n")
    with pytest.raises(CorpusError) as caught:
        read(path)
    assert row_stream.FOREIGN[first][0] in caught.value.message and caught.value.fix


@pytest.mark.parametrize("size", [5, 20, -9])
def test_a_cut_gzip_file_is_damaged(tmp_path, size):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(TEXT)[:size])
    with pytest.raises(CorpusError, match="is damaged or cut off"):
        read(path)


def test_a_folder_and_a_missing_file(tmp_path):
    for path, reason in ((tmp_path, "is a folder"), (tmp_path / "none", "No such file")):
        with pytest.raises(CorpusError, match=reason):
            read(path)
