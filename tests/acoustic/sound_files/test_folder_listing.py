"""Sound files are found at every depth; the others are counted by suffix."""

from __future__ import annotations

from thunder.acoustic.sound_files.folder_listing import list_sound_files


def test_files_and_counts(tmp_path):
    for name in ("b.WAV", "a/c.flac", "a/x.txt", "y.TXT", "README", ".DS_Store", "rows.csv", "z.xyz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files, passed_over = list_sound_files(tmp_path, (".wav", ".flac"), {tmp_path / "rows.csv"})
    assert files == [tmp_path / "a/c.flac", tmp_path / "b.WAV"]
    assert passed_over == {".txt": 2, "without a suffix": 1, ".xyz": 1}
