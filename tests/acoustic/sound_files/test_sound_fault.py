"""The error names the file and what to do."""

from __future__ import annotations

from pathlib import Path

from thunder.acoustic.sound_files.sound_fault import COPY_AGAIN, in_one_line, sound_fault


def test_the_file_and_the_fix_are_in_it():
    assert str(sound_fault(Path("a.wav"), "is torn", "mend it")) == "a.wav: is torn\n  to fix: mend it"
    assert "--keep-going" in sound_fault(Path("a.wav"), "is torn").fix


def test_in_a_list_only_a_special_fix_is_repeated():
    assert in_one_line(sound_fault(Path("a.wav"), "is torn")) == "a.wav: is torn"
    assert in_one_line(sound_fault(Path("a.wav"), "is torn", COPY_AGAIN)) == "a.wav: is torn; to fix: copy it again"
