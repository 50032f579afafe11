"""Recordings of every kind that people have, and the ones that cannot be used: each is named with what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from thunder.acoustic.features import audio
from thunder.errors import CorpusError


def tone(seconds=1.0, rate=16000, hertz=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def save(path, samples, rate=16000, **more):
    soundfile.write(path, samples, rate, **more)
    return path


@pytest.mark.parametrize(
    ("name", "subtype", "error"),
    [("a.flac", "PCM_16", 1e-4), ("a.wav", "PCM_16", 1e-4), ("a.wav", "FLOAT", 0), ("a.aiff", "PCM_24", 1e-6),
     ("a.ogg", "VORBIS", 0.05), ("a.mp3", "MPEG_LAYER_III", 0.05)],
)  # fmt: skip
def test_kinds_of_files(tmp_path, name, subtype, error):
    wanted = tone()
    found = audio.load_audio(save(tmp_path / name, wanted, subtype=subtype))
    assert found.samples.dtype == np.float32 and found.seconds == 1 and found.notes == () and found.clipped == 0
    assert np.abs(found.samples - wanted)[2000:-2000].max() <= error


def test_stereo_is_averaged(tmp_path):
    left, right = tone(), tone(hertz=1000)
    found = audio.load_audio(save(tmp_path / "a.wav", np.stack([left, right], 1), subtype="FLOAT"))
    assert found.notes == ("was stereo",)
    assert np.abs(found.samples - (left + right) / 2).max() < 1e-6
    assert audio.load_audio(save(tmp_path / "b.wav", np.stack([left] * 6, 1))).notes == ("had 6 channels",)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_another_rate_is_resampled(tmp_path, rate):
    found = audio.load_audio(save(tmp_path / "a.wav", tone(rate=rate), rate, subtype="FLOAT"))
    assert found.notes == (f"was resampled from {rate} Hz",)
    assert len(found.samples) == 16000 and found.seconds == 1
    # away from the ends, where the filter has no past, it is the same tone
    assert np.abs(found.samples - tone())[500:-500].max() < 1e-3


def test_resampling_does_not_fold_high_tones_down(tmp_path):
    found = audio.load_audio(save(tmp_path / "a.wav", tone(rate=44100, hertz=12000), 44100, subtype="FLOAT"))
    assert np.abs(found.samples[500:-500]).max() < 1e-3


def test_clipped_and_silent_are_noted_and_used(tmp_path):
    clipped = audio.load_audio(save(tmp_path / "a.wav", np.clip(tone(level=1.5), -1, 1)))
    share = (np.abs(tone(level=1.5)) >= 1).mean()
    assert clipped.notes == ("is clipped",) and clipped.clipped == pytest.approx(share, abs=0.01)
    assert audio.load_audio(save(tmp_path / "b.flac", np.zeros(100))).notes == ("is silent",)


def bad(name, content):
    def make(folder):
        path = folder / name
        path.write_bytes(content)
        return path

    return make


def cut(name, share, **more):
    def make(folder):
        path = save(folder / name, np.random.default_rng(0).normal(0, 0.1, 48000).astype(np.float32), **more)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
        return path

    return make


def not_finite(folder):
    samples = tone()
    samples[77] = np.nan
    return save(folder / "a.wav", samples, subtype="FLOAT")


BAD = {
    "missing": (lambda folder: folder / "a.flac", "No such file"),
    "a folder": (lambda folder: folder, "is a folder"),
    "0 bytes": (bad("a.flac", b""), "is empty: 0 bytes"),
    "no samples": (lambda folder: save(folder / "a.wav", np.zeros(0, np.float32)), "is empty: it holds no samples"),
    "a text": (bad("a.wav", b"I am not a recording, whatever my name says."), "is not audio"),
    "noise": (bad("a.flac", np.random.default_rng(0).bytes(5000)), "is not audio"),
    "a cut FLAC": (cut("a.flac", 0.6), "truncated"),
    "a FLAC of a header": (bad("a.flac", b"fLaC\x00\x00\x00\x22"), "is not audio that can be read, or is truncated"),
    "a cut WAV": (cut("a.wav", 0.6), r"is truncated: 576\d\d bytes of 960\d\d"),
    "a WAV that lacks one sample": (cut("a.wav", 0.99998), "is truncated"),
    "a cut OGG": (cut("a.ogg", 0.6), "is truncated: its last page lacks"),
    "not finite": (not_finite, "has samples that are not finite"),
    "an hour and more": (
        lambda folder: save(folder / "a.wav", np.zeros(3601 * 1000, np.int16), 1000), "is 3601 s long, more than 3600 s"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_named(tmp_path, name):
    make, said = BAD[name]
    path = make(tmp_path)
    with pytest.raises(CorpusError, match=said) as error:
        audio.load_audio(path)
    assert str(path) in error.value.message and error.value.fix


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.wav"])
def test_no_cut_passes_unseen(tmp_path, name, share):
    with pytest.raises(CorpusError):
        audio.load_audio(cut(name, share)(tmp_path))


def test_a_wav_from_a_pipe_has_no_length_and_is_read(tmp_path):
    path = save(tmp_path / "a.wav", tone())
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4
    path.write_bytes(data)
    assert len(audio.load_audio(path).samples) == 16000


def test_a_segment_of_a_row_is_cut(tmp_path):
    path = save(tmp_path / "a.wav", tone(2, 8000), 8000, subtype="FLOAT")
    whole = soundfile.read(path, dtype="float32")[0]
    found = audio.read_recording(path, offset=0.5, duration=1)
    assert found.seconds == 1 and np.array_equal(found.samples, audio.resample_audio(whole[4000:12000], 8000))
    assert audio.read_recording(path, offset=1.5).seconds == 0.5


def test_a_duration_that_contradicts_the_file_is_a_fault(tmp_path):
    path = save(tmp_path / "a.wav", tone(2))
    assert audio.read_recording(path, duration=2.05).seconds == 2
    for options, message in (
        ({"duration": 1.5}, "is 2.00 s long, and its row states a duration of 1.5 s"),
        ({"duration": 2.5}, "is 2.00 s long, and its row states a duration of 2.5 s"),
        ({"offset": 1, "duration": 1.5}, "is 2.00 s long, and its row states a segment from 1 s to 2.5 s"),
    ):
        with pytest.raises(CorpusError, match=message):
            audio.read_recording(path, **options)
    assert audio.read_recording(path, offset=0, duration=1.5).seconds == 1.5


def test_one_channel_is_used(tmp_path):
    left, right = tone(), tone(hertz=1000)
    path = save(tmp_path / "a.wav", np.stack([left, right], 1), subtype="FLOAT")
    found = audio.read_recording(path, channel=1)
    assert np.array_equal(found.samples, right) and found.notes == ("is channel 1 of 2",)
    with pytest.raises(CorpusError, match=r"has 2 channels, and channel 2 was asked for \(the first is 0\)"):
        audio.read_recording(path, channel=2)


def test_channels_that_cancel_each_other_are_refused(tmp_path):
    path = save(tmp_path / "a.wav", np.stack([tone(), -tone()], 1))
    with pytest.raises(CorpusError, match="channels of opposite phase: their average cancels the sound") as error:
        audio.load_audio(path)
    assert "--channel 0" in error.value.fix
    assert np.abs(audio.read_recording(path, channel=0).samples - tone()).max() < 1e-4
    assert audio.load_audio(save(tmp_path / "b.wav", np.zeros((100, 2)))).notes == ("was stereo", "is silent")


@pytest.mark.parametrize(
    ("samples", "silent"),
    [(np.zeros(8000), True), (np.random.default_rng(0).integers(-1, 2, 32000) / 32768, True), (tone(level=1e-4), True),
     (tone(level=2e-4), False), (np.concatenate([np.zeros(160000), tone(0.2, level=0.01)]), False)],
)  # fmt: skip
def test_silence_is_below_the_noise_of_microphones(tmp_path, samples, silent):
    found = audio.load_audio(save(tmp_path / "a.wav", samples, subtype="FLOAT"))
    assert found.silent == silent and ("is silent" in found.notes) == silent


@pytest.mark.parametrize("samples", [1, 480000, 480001, 1000000])
def test_windows_are_the_whole_in_pieces(samples):
    whole = np.arange(samples, dtype=np.float32)
    pieces = audio.split_windows(whole)
    assert np.array_equal(np.concatenate(pieces), whole) and max(map(len, pieces)) <= 480000
    assert len(pieces) == -(-samples // 480000)
