"""Containers of phones and browsers: converted where there is a program, otherwise one line with the fix."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sound_cases import FFMPEG, convert, save, speech_like

from thunder.acoustic.sound_files import containers
from thunder.acoustic.sound_files.reader import read_sound
from thunder.errors import CorpusError

HEADS = {
    "MP4 (m4a, 3gp)": b"\0\0\0\x20ftypM4A \0\0\0\0",
    "Matroska or WebM": b"\x1a\x45\xdf\xa3" + bytes(12),
    "AMR": b"#!AMR\n" + bytes(10),
    "Windows Media (wma)": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    "AAC (ADTS)": b"\xff\xf1" + bytes(14),
}


@pytest.mark.parametrize("container", HEADS)
def test_without_a_converter_the_message_says_what_to_install(tmp_path, monkeypatch, container):
    path = tmp_path / "a.bin"
    path.write_bytes(HEADS[container])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CorpusError) as error:
        read_sound(path)
    assert error.value.message == f"{path}: is {container}, which needs ffmpeg or afconvert, and there is neither"
    assert "brew install ffmpeg" in error.value.fix and "\n" not in str(error.value.message + error.value.fix)


def test_a_mark_of_mp3_is_no_container():
    assert containers.container_of(b"\xff\xfb\x90\x64" + bytes(60)) is None
    assert containers.container_of(b"RIFF\0\0\0\0WAVE") is None


def write_program(folder, name, body):
    program = folder / name
    program.write_text(f"#!{sys.executable}\n{body}")
    program.chmod(0o755)


@pytest.mark.parametrize(("name", "at"), [("ffmpeg", -1), ("afconvert", -1)])
def test_the_program_that_is_there_is_used(tmp_path, monkeypatch, name, at):
    wav = save(tmp_path / "source.wav", speech_like(), subtype="FLOAT")
    write_program(tmp_path, name, f"import shutil, sys\nshutil.copy({str(wav)!r}, sys.argv[{at}])")
    (tmp_path / "a.m4a").write_bytes(HEADS["MP4 (m4a, 3gp)"])
    monkeypatch.setenv("PATH", str(tmp_path))
    found = read_sound(tmp_path / "a.m4a")
    assert np.array_equal(found.samples[:, 0], speech_like())
    assert found.notes == ("was converted from MP4 (m4a, 3gp)",)


@pytest.mark.parametrize(("name", "fix"), [("ffmpeg", "copy it again"), ("afconvert", "install ffmpeg")])
def test_an_error_of_the_program_is_the_files_fault(tmp_path, monkeypatch, name, fix):
    write_program(tmp_path, name, "import sys\nprint('File ended\\nprematurely', file=sys.stderr)")
    (tmp_path / "a.webm").write_bytes(HEADS["Matroska or WebM"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CorpusError, match=f"{name} cannot read without an error: File ended prematurely") as error:
        read_sound(tmp_path / "a.webm")
    assert fix in error.value.fix


ENCODERS = {
    "a.m4a": ("-c:a", "aac"), "a.mp4": ("-c:a", "aac"), "a.aac": ("-c:a", "aac", "-f", "adts"),
    "a.webm": ("-c:a", "libopus"), "a.caf": ("-c:a", "alac"), "a.wma": ("-c:a", "wmav2"), "a.oga": ("-c:a", "libopus"),
}  # fmt: skip


@pytest.mark.skipif(not FFMPEG, reason="needs ffmpeg")
@pytest.mark.parametrize("name", ENCODERS)
def test_files_that_ffmpeg_writes_are_read(tmp_path, name):
    path = convert(save(tmp_path / "a.wav", speech_like()), tmp_path / name, *ENCODERS[name])
    found = read_sound(path)
    assert len(found.samples) / found.rate == pytest.approx(2, abs=0.15)
    assert np.square(found.samples).mean() == pytest.approx(np.square(speech_like()).mean(), rel=0.3)
