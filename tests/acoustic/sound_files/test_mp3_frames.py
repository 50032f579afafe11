"""MP3 files without a header that states their frames are decoded to their end; missing frames are named."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from sound_cases import mp3_frames_of, mp3_without_header, save, speech_like

from thunder.acoustic.sound_files import mp3_frames
from thunder.acoustic.sound_files.reader import read_sound
from thunder.errors import CorpusError

NO_HEADER = ("had no MP3 header with its length",)
FRAME, DELAY = 576, 529  # samples: of a frame of MPEG 2, and those that every decoder adds at the start


def loud_then_quiet(seconds):
    """[S]: a variable rate spends its bytes on the first half, so that a length by the mean of the first is wrong."""
    samples = speech_like(seconds)
    samples[len(samples) // 2 :] *= 1e-3
    return samples


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE", "AVERAGE"])
def test_a_file_without_a_header_is_decoded_to_its_end(tmp_path, mode):
    samples = loud_then_quiet(4)
    path = mp3_without_header(tmp_path / "a.mp3", samples, bitrate_mode=mode)
    frames = len(mp3_frames_of(path.read_bytes()))
    found = read_sound(path)
    assert len(found.samples) == frames * FRAME - DELAY >= len(samples) and found.notes == NO_HEADER
    # the encoder's delay remains, because only the header states it
    whole = soundfile.read(save(tmp_path / "whole.mp3", samples, bitrate_mode=mode), dtype="float32")[0]
    delays = range(2500)
    errors = [np.abs(found.samples[delay : delay + 8000, 0] - whole[:8000]).mean() for delay in delays]
    delay = int(np.argmin(errors))
    kept = found.samples[delay : delay + len(whole), 0]
    assert len(kept) == len(whole) and np.abs(kept - whole)[2000:-2000].max() < 1e-3


def test_tags_and_padding_are_no_frames(tmp_path):
    path = mp3_without_header(tmp_path / "a.mp3", speech_like())
    bare = read_sound(path).samples
    id3 = b"ID3\x04\0\0\0\0\x02\x01" + b"\xff\xfb\x90\x64" * 64 + b"x"  # 257 bytes that look like frames
    ape = b"APETAGEX" + (2000).to_bytes(4, "little") + (32).to_bytes(4, "little") + bytes(16)
    path.write_bytes(id3 + path.read_bytes() + bytes(500) + ape + b"TAG" + bytes(125))
    found = read_sound(path)
    assert np.abs(found.samples - bare).max() < 1e-6 and found.notes == NO_HEADER


def test_two_files_in_one_are_read_both(tmp_path):
    content = save(tmp_path / "a.mp3", speech_like()).read_bytes()
    (tmp_path / "two.mp3").write_bytes(content * 2)
    found = read_sound(tmp_path / "two.mp3")
    assert len(found.samples) >= 2 * len(speech_like())
    assert found.notes == ("has more or fewer MP3 frames than its header states",)


def test_a_file_as_encoders_write_it_is_read_as_it_is(tmp_path):
    path = save(tmp_path / "a.mp3", speech_like())
    assert mp3_frames.check_mp3(path) == mp3_frames.Mp3File()
    assert np.abs(read_sound(path).samples[:, 0] - soundfile.read(path, dtype="float32")[0]).max() < 1e-6


def test_a_cut_is_named(tmp_path):
    content = save(tmp_path / "a.mp3", speech_like()).read_bytes()
    (tmp_path / "a.mp3").write_bytes(content[: len(content) // 2])
    with pytest.raises(CorpusError, match=r"is truncated: \d+ of \d+ MP3 frames are there"):
        read_sound(tmp_path / "a.mp3")
    path = mp3_without_header(tmp_path / "b.mp3", speech_like())
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CorpusError, match="is truncated: its last MP3 frame lacks 7 bytes"):
        read_sound(path)


def test_bytes_between_frames_are_noted_and_many_are_refused(tmp_path):
    path = mp3_without_header(tmp_path / "a.mp3", speech_like(4))
    bare, content = read_sound(path).samples, path.read_bytes()
    middle = len(b"".join(mp3_frames_of(content)[:50]))
    path.write_bytes(content[:middle] + b"junk" * 8 + content[middle:])
    assert read_sound(path).samples.shape == bare.shape
    path.write_bytes(content[:middle] + b"junk" * 8000 + content[middle:])
    with pytest.raises(CorpusError, match="that are no MP3 frames"):
        read_sound(path)


def test_a_page_of_an_error_is_not_audio(tmp_path, capfd):
    (tmp_path / "a.mp3").write_text("<html>404</html>")
    with pytest.raises(CorpusError, match="is not audio: it has no MP3 frames"):
        read_sound(tmp_path / "a.mp3")
    assert capfd.readouterr() == ("", "")
