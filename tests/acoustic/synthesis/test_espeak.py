"""espeak-ng: a program that fails, is silent or absent is named."""

import os

import pytest
from synthesis_options import settings_for

from thunder.acoustic.synthesis import espeak
from thunder.acoustic.synthesis.synthetic_speech import synthesize_speech
from thunder.errors import UsageError


def program_that(tmp_path, monkeypatch, does: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    program = folder / "espeak-ng"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin{os.pathsep}/usr/bin")


@pytest.mark.parametrize(
    ("does", "said"),
    [("echo broken >&2; exit 3", "broken"), ("exit 3", "exit code 3"), ("exec sleep 30", "did not finish within")],
)
def test_a_program_that_fails_is_named_with_its_words(tmp_path, monkeypatch, does, said):
    monkeypatch.setattr(espeak, "TIMEOUT", 0.3)
    program_that(tmp_path, monkeypatch, does)
    with pytest.raises(UsageError, match=said):
        espeak.speak_phonemes("a", "tn", 140, tmp_path / "a.wav")


def test_a_program_that_is_silent_or_absent_is_named(tmp_path, monkeypatch):
    program_that(tmp_path, monkeypatch, "exit 0")
    with pytest.raises(UsageError, match="produced no sound"):
        espeak.speak_phonemes("a", "tn", 140, tmp_path / "a.wav")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="not on this machine") as caught:
        synthesize_speech(settings_for(tmp_path))
    assert "apt-get install espeak-ng" in caught.value.fix
