"""Whole files and segments: the samples are those of the file, and a span beyond its end is a fault."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from sound_cases import flac_without_length, mp3_without_header, save, speech_like

from thunder.acoustic.sound_files import reader
from thunder.acoustic.sound_files.reader import Span, read_sound
from thunder.errors import CorpusError


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff", "a.ogg", "a.mp3"])
@pytest.mark.parametrize("span", [Span(), Span(0.5), Span(0.25, 1.5), Span(1.9, 2.05)])
def test_a_segment_is_cut_from_the_samples_of_the_file(tmp_path, name, span):
    path = save(tmp_path / name, np.stack([speech_like(), speech_like() / 2], 1))
    whole, _ = soundfile.read(path, dtype="float32")
    found = read_sound(path, span)
    end = len(whole) if span.end is None else round(span.end * 16000)
    expected = whole[round(span.start * 16000) : end]
    assert found.samples.shape == expected.shape and np.abs(found.samples - expected).max() < 1e-6  # MP3 rounds
    assert found.file_seconds == pytest.approx(2)


@pytest.mark.parametrize(
    ("span", "message"),
    [(Span(0, 3), "is 2.00 s long, and its row states a segment from 0 s to 3 s"), (Span(2.5), "is empty"),
     (Span(-1, 1), "is empty"), (Span(1, 1), "is empty")],
)  # fmt: skip
def test_a_segment_that_the_file_does_not_have_is_a_fault(tmp_path, span, message):
    with pytest.raises(CorpusError, match=message):
        read_sound(save(tmp_path / "a.wav", speech_like()), span)


def test_segments_of_a_file_that_is_too_long_as_a_whole(tmp_path):
    samples = np.arange(3601 * 1000) % 30000
    path = save(tmp_path / "a.wav", samples.astype(np.int16), 1000)
    with pytest.raises(CorpusError, match="is 3601 s long, more than 3600 s"):
        read_sound(path)
    found = read_sound(path, Span(3600, 3601))
    assert np.array_equal(found.samples[:, 0] * 32768, samples[-1000:])


def test_a_flac_without_a_length_is_read_to_its_end_or_its_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "_BLOCK", 7000)  # in several blocks, the last one partly filled
    path = flac_without_length(tmp_path / "pipe.flac", speech_like())
    whole, _ = soundfile.read(save(tmp_path / "right.flac", speech_like()), dtype="float32")
    found = read_sound(path)
    assert np.array_equal(found.samples[:, 0], whole) and found.notes == ("had no length in its header",)
    assert np.array_equal(read_sound(path, Span(1, 1.5)).samples[:, 0], whole[16000:24000])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(CorpusError, match="truncated"):
        read_sound(path)


def test_a_segment_of_an_mp3_without_a_header(tmp_path):
    path = mp3_without_header(tmp_path / "a.mp3", speech_like())
    whole = read_sound(path).samples
    assert np.abs(read_sound(path, Span(1, 1.5)).samples - whole[16000:24000]).max() < 1e-6
