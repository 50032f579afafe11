"""Sizes in WAV headers: placeholders of pipes are replaced, contradictions are named."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from sound_cases import save, speech_like, wav_with_sizes

from thunder.acoustic.sound_files import wav_header
from thunder.acoustic.sound_files.reader import read_sound
from thunder.errors import CorpusError

SAMPLES = speech_like()
BYTES = 2 * len(SAMPLES)


def right(folder):
    return soundfile.read(save(folder / "right.wav", SAMPLES), dtype="float32", always_2d=True)[0]


@pytest.mark.parametrize(
    ("riff", "data"),
    [(0xFFFFFFFF, 0xFFFFFFFF), (0, 0), (36, 0), (0x7FFFFFFF, 0x7FFFFFFF), (0x7FFFF024, 0x7FFFF000),
     (0x80000024, 0x80000000), (0xFFFFFFFF, 0xFFFFFFFF - 36), (None, 0), (None, 0xFFFFFFFF), (0, None)],
)  # fmt: skip
def test_placeholder_sizes_are_read_to_the_end_of_the_file(tmp_path, riff, data):
    path = wav_with_sizes(tmp_path / "pipe.wav", SAMPLES, riff, data)
    found = read_sound(path)
    assert np.array_equal(found.samples, right(tmp_path))
    assert found.notes == ((wav_header.NO_LENGTH,) if data is not None else ())


@pytest.mark.parametrize(
    ("riff", "data", "tail", "message"),
    [
        (None, BYTES // 2, b"", f"states {BYTES // 2} bytes, but {BYTES // 2} more bytes follow that are no chunk"),
        (None, BYTES + 20000, b"", f"is truncated: its data chunk states {BYTES + 20000} bytes, and {BYTES} follow"),
        (BYTES + 36 + 100, BYTES + 100, b"", f"is truncated: {BYTES + 44} bytes of {BYTES + 144}"),
        (36 + BYTES // 2, BYTES // 2, b"", f"{BYTES // 2} bytes follow the end that its header states"),
    ],
)
def test_a_size_that_contradicts_the_file_is_named(tmp_path, riff, data, tail, message):
    path = wav_with_sizes(tmp_path / "a.wav", SAMPLES, riff, data, tail)
    with pytest.raises(CorpusError, match=message) as error:
        read_sound(path)
    assert str(path) in error.value.message and error.value.fix


@pytest.mark.parametrize("tail", [bytes(5001), b"TAG" + b"x" * 125, b"LIST\x04\0\0\0INFO"])
def test_bytes_behind_the_end_that_are_no_samples_are_allowed(tmp_path, tail):
    path = wav_with_sizes(tmp_path / "a.wav", SAMPLES, None, None, tail)
    found = read_sound(path)
    assert np.array_equal(found.samples, right(tmp_path))
    assert found.notes == (() if tail[:4] == b"LIST" else ("has bytes behind its end",))


def test_an_empty_data_chunk_with_another_behind_it_is_empty(tmp_path):
    path = wav_with_sizes(tmp_path / "a.wav", SAMPLES[:0], None, None, b"LIST\x04\0\0\0INFO")
    assert len(read_sound(path).samples) == 0


def test_chunks_before_the_samples_are_skipped_with_their_padding(tmp_path):
    content = save(tmp_path / "a.wav", SAMPLES).read_bytes()
    odd = b"LIST" + (13).to_bytes(4, "little") + b"INFOISFT\x01\0\0\0a\0"
    content = content[:36] + odd * 300 + content[36:]  # beyond the bytes that are read at first
    (tmp_path / "a.wav").write_bytes(content[:4] + (len(content) - 8).to_bytes(4, "little") + content[8:])
    assert np.array_equal(read_sound(tmp_path / "a.wav").samples, right(tmp_path))


def test_a_padded_last_block_is_cut_to_the_stated_samples(tmp_path):
    path = save(tmp_path / "a.wav", SAMPLES, subtype="IMA_ADPCM")
    content = path.read_bytes()
    stated = len(SAMPLES) - 100
    at = content.index(b"fact") + 8
    path.write_bytes(content[:at] + stated.to_bytes(4, "little") + content[at + 4 :])
    assert len(read_sound(path).samples) == stated
