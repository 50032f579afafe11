"""Data folders of Kaldi: every fault is named with its file."""

from __future__ import annotations

import manifest_folders as folders
import pytest

from thunder.acoustic.manifests.kaldi_folder import read_kaldi_folder
from thunder.corpora.rows.jsonl_lines import LineFaults
from thunder.errors import CorpusError


def test_faults_of_a_folder(tmp_path):
    folder = folders.kaldi_segments(tmp_path / "data", tmp_path / "far")
    with (folder / "segments").open("a") as stream:
        stream.write("d other 0 1\ne long 0\n")
    with (folder / "text").open("a") as stream:
        stream.write("z ߞ\n")
    faults = LineFaults()
    rows = dict(read_kaldi_folder(folder, faults))
    assert len({where.rpartition(": ")[2] for where in rows} & {"a", "b", "c"}) == 3 and len(rows) == 3
    for said in ("segments: d: expected RECORDING START END", "segments: e: expected", "text: z: has a text, but no"):
        assert any(said in fault for fault in faults.first), said


def test_a_pipe_is_named(tmp_path):
    (tmp_path / "wav.scp").write_text("u1 sph2pipe -f wav a.sph |\nu2\ta.wav\n")
    faults = LineFaults()
    rows = list(read_kaldi_folder(tmp_path, faults))
    assert [fields for _, fields in rows] == [{"id": "u2", "audio": "a.wav"}]
    assert "u1: is the output of a command" in faults.first[0]


def test_a_file_in_another_encoding(tmp_path):
    (tmp_path / "wav.scp").write_bytes(b"\xff\xfeu")
    with pytest.raises(CorpusError, match="cannot be read"):
        list(read_kaldi_folder(tmp_path, LineFaults()))
