"""Corpus folders: a write is complete or leaves nothing, and a check names each damaged file."""

import pytest
from conftest import write_rows
from planted_rows import pairs

from thunder.corpora.builders import corpus_folder
from thunder.corpora.builders.real_corpus import build_agp_nko_correction_chatml
from thunder.corpora.corpus_settings import BuildSettings
from thunder.errors import ArtifactError, CorpusError


@pytest.fixture
def make(tmp_path):
    def make(rows, out="corpus", **options):
        source = write_rows(tmp_path / "rows.jsonl", rows)
        settings = BuildSettings(inputs=[str(source)], out=str(tmp_path / out), **options)
        return tmp_path / out, build_agp_nko_correction_chatml(settings)

    return make


def test_faults_leave_nothing_behind(make, tmp_path):
    with pytest.raises(CorpusError, match="rows.jsonl:1: 'after' is empty"):
        make([{"before": "x", "after": ""}])
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_folder_of_others_is_not_touched(make, tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "train.jsonl").write_text("precious")
    with pytest.raises(CorpusError, match="has no corpus manifest"):
        make(pairs(5))
    assert (tmp_path / "corpus" / "train.jsonl").read_text() == "precious"


def test_a_corpus_is_replaced_whole(make):
    out, _ = make(pairs(60), valid_share=0.3)
    out, manifest = make(pairs(60), valid_share=0.0, test_share=0.0)
    assert {path.name for path in out.iterdir()} == {*manifest["files"], "manifest.json"}
    assert not (out / "valid.jsonl").exists()
    corpus_folder.verify_corpus(out)


@pytest.mark.parametrize("name", ["train.jsonl", "confusions.svg", "README.md"])
def test_verify_names_the_damaged_file(make, name):
    out, _ = make(pairs(60))
    corpus_folder.verify_corpus(out)
    content = bytearray((out / name).read_bytes())
    content[len(content) // 2] ^= 1
    (out / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name}: sha256 is") as caught:
        corpus_folder.verify_corpus(out)
    assert caught.value.exit_code == 4
    (out / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name}: is missing"):
        corpus_folder.verify_corpus(out)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"schema": "thunder.corpus/1", "files": {"a": 1}}', b"\xff"])
def test_verify_of_a_damaged_manifest(make, content):
    out, _ = make(pairs(20))
    (out / "manifest.json").write_bytes(content)
    with pytest.raises(ArtifactError):
        corpus_folder.verify_corpus(out)


def test_without_a_manifest_a_corpus_is_not_complete(make):
    out, _ = make(pairs(20))
    (out / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="not complete"):
        corpus_folder.verify_corpus(out)
