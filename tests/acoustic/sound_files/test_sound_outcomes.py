"""The outcome of each kind of sound file that people have: it is read right, or refused in one clear line."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from sound_cases import (
    FFMPEG,
    RATE,
    convert,
    flac_without_length,
    mp3_without_header,
    save,
    speech_like,
    wav_with_sizes,
)

from thunder.acoustic.features.audio import read_recording
from thunder.cli import main as cli
from thunder.errors import CorpusError

SECONDS = 2.0
X = speech_like(SECONDS)
BYTES = 2 * len(X)
HEADERLESS = "had no length in its header"
NO_MP3_HEADER = "had no MP3 header with its length"
ANY_LENGTH = None


def written(samples, rate=RATE, name="a.wav", **more):
    return lambda folder: save(folder / name, samples, rate, **more)


def sized(riff, data, tail=b""):
    return lambda folder: wav_with_sizes(folder / "a.wav", X, riff, data, tail)


def with_bytes(name, content):
    def make(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return make


def renamed(name, source):
    def make(folder):
        return source(folder).rename(folder / name)

    return make


def cut(source, share=0.5):
    def make(folder):
        path = source(folder)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        return path

    return make


def cut_with_a_right_riff_size(folder):
    path = cut(written(X))(folder)
    content = bytearray(path.read_bytes())
    content[4:8] = (len(content) - 8).to_bytes(4, "little")
    path.write_bytes(content)
    return path


def not_a_number(folder):
    samples = X.copy()
    samples[100] = np.nan
    return save(folder / "a.wav", samples, subtype="FLOAT")


# name -> (maker, seconds, notes)
READ = {
    **{f"{subtype} WAV": (written(X, subtype=subtype), SECONDS, ())
       for subtype in ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_U8", "ULAW")},
    "FLAC": (written(X, name="a.flac"), SECONDS, ()),
    "OGG": (written(X, name="a.ogg"), SECONDS, ()),
    "OPUS": (written(X, name="a.opus", format="OGG", subtype="OPUS"), SECONDS, ()),
    "OGA": (written(X, name="a.oga", format="OGG"), SECONDS, ()),
    "MP3": (written(X, name="a.mp3"), SECONDS, ()),
    "IMA ADPCM": (written(X, subtype="IMA_ADPCM"), 2.034, ()),
    "float beyond full scale": (written(X * 8, subtype="FLOAT"), SECONDS, ("is clipped",)),
    "clipped": (written(np.clip(X * 20, -1, 1)), SECONDS, ("is clipped",)),
    "a constant offset": (written(X * 0.5 + 0.4), SECONDS, ()),
    "the same in stereo": (written(np.stack([X, X], 1)), SECONDS, ("was stereo",)),
    "left only": (written(np.stack([X, 0 * X], 1)), SECONDS, ("was stereo",)),
    "two voices": (written(np.stack([X, np.roll(X, 8000)], 1)), SECONDS, ("was stereo",)),
    "silence": (written(np.zeros(2 * RATE)), SECONDS, ("is silent",)),
    "noise of one step": (
        written(np.random.default_rng(0).integers(-1, 2, 2 * RATE).astype(np.int16)), SECONDS, ("is silent",)
    ),
    "far too quiet": (written(X * 1e-4), SECONDS, ("is silent",)),
    "one sample": (written(np.full(1, 0.1)), 1 / RATE, ()),
    "50 samples": (written(np.full(50, 0.1)), 50 / RATE, ()),
    "N'Ko in its name": (written(X, name="ߒߞߏ ߞߊ߲.wav"), SECONDS, ()),
    "quotes in its name": (written(X, name="a'b\"c d.wav"), SECONDS, ()),
    "a suffix in capitals": (written(X, name="A.WAV"), SECONDS, ()),
    "over 30 s": (written(np.tile(X, 16)), 32.0, ()),
    "telephone": (written(X[::2], 8000, subtype="ULAW"), SECONDS, ("was resampled from 8000 Hz",)),
    "11025 Hz": (written(X[:11025], 11025), 1.0, ("was resampled from 11025 Hz",)),
    "44100 Hz": (written(np.repeat(X, 3)[:88200], 44100), SECONDS, ("was resampled from 44100 Hz",)),
    "ffmpeg's pipe": (sized(0xFFFFFFFF, 0xFFFFFFFF), SECONDS, (HEADERLESS,)),
    "sizes of 0": (sized(0, 0), SECONDS, (HEADERLESS,)),
    "sizes of 36 and 0": (sized(36, 0), SECONDS, (HEADERLESS,)),
    "SoX's pipe": (sized(0x7FFFFFFF, 0x7FFFFFFF), SECONDS, (HEADERLESS,)),
    "an older SoX's pipe": (sized(0x7FFFF024, 0x7FFFF000), SECONDS, (HEADERLESS,)),
    "arecord's pipe": (sized(0x80000024, 0x80000000), SECONDS, (HEADERLESS,)),
    "bytes behind the end": (sized(None, None, bytes(5001)), SECONDS, ("has bytes behind its end",)),
    "a FLAC from a pipe": (lambda folder: flac_without_length(folder / "a.flac", X), SECONDS, (HEADERLESS,)),
    "an MP3 without a header": (
        lambda folder: mp3_without_header(folder / "a.mp3", X), ANY_LENGTH, (NO_MP3_HEADER,)
    ),
    "a VBR MP3 without a header": (
        lambda folder: mp3_without_header(folder / "a.mp3", X, bitrate_mode="VARIABLE"), ANY_LENGTH, (NO_MP3_HEADER,)
    ),
    "an MP3 named WAV": (renamed("b.wav", written(X, name="a.mp3")), SECONDS, ()),
    "a WAV named MP3": (renamed("b.mp3", written(X)), SECONDS, ()),
}  # fmt: skip

# name -> (maker, message)
REFUSED = {
    "opposite phases": (written(np.stack([X, -X], 1)), "channels of opposite phase"),
    "no samples": (written(np.zeros(0)), "is empty: it holds no samples"),
    "0 bytes": (with_bytes("a.wav", b""), "is empty: 0 bytes"),
    "a text named WAV": (with_bytes("a.wav", b"hello"), "is not audio"),
    "an error page named MP3": (with_bytes("a.mp3", b"<html>404</html>"), "is not audio: it has no MP3 frames"),
    "half of the data stated": (sized(None, BYTES // 2), f"states {BYTES // 2} bytes, but {BYTES // 2} more bytes"),
    "more data stated": (sized(None, BYTES + 20000), f"states {BYTES + 20000} bytes, and {BYTES} follow"),
    "a cut WAV": (cut(written(X)), "is truncated"),
    "a cut WAV with a right RIFF size": (cut_with_a_right_riff_size, "is truncated: its data chunk states"),
    "a cut MP3": (cut(written(X, name="a.mp3")), r"is truncated: \d+ of \d+ MP3 frames are there"),
    "a cut OGG": (cut(written(X, name="a.ogg")), "is truncated"),
    "a cut FLAC": (cut(written(X, name="a.flac")), "truncated"),
    "a cut FLAC from a pipe": (cut(lambda folder: flac_without_length(folder / "a.flac", X)), "truncated"),
    "not a number": (not_a_number, "not finite"),
    "m4a": (with_bytes("a.m4a", b"\0\0\0\x20ftypM4A \0\0\0\0"), r"is MP4 \(m4a, 3gp\)"),
    "webm": (with_bytes("a.webm", b"\x1a\x45\xdf\xa3" + bytes(20)), "is Matroska or WebM"),
    "AMR": (with_bytes("a.amr", b"#!AMR\n" + bytes(20)), "is AMR"),
    "AAC": (with_bytes("a.aac", b"\xff\xf1" + bytes(20)), r"is AAC \(ADTS\)"),
    "WMA": (with_bytes("a.wma", bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")), r"is Windows Media \(wma\)"),
}


@pytest.mark.parametrize("name", READ)
def test_is_read_with_its_notes(tmp_path, name):
    make, seconds, notes = READ[name]
    found = read_recording(make(tmp_path))
    assert found.notes == notes and found.samples.dtype == np.float32 and np.isfinite(found.samples).all()
    if seconds is ANY_LENGTH:  # the delay of the encoder, at most 4 frames, is in it
        assert SECONDS <= found.seconds <= SECONDS + 4 * 576 / RATE
    else:
        assert found.seconds == pytest.approx(seconds, abs=1e-9)
        assert len(found.samples) == pytest.approx(seconds * RATE, abs=1)


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_in_one_line(tmp_path, name, monkeypatch):
    make, message = REFUSED[name]
    path = make(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # no converter
    with pytest.raises(CorpusError, match=message) as error:
        read_recording(path)
    assert error.value.message.startswith(f"{path}: ") and error.value.fix
    assert "\n" not in error.value.message + error.value.fix


def test_a_folder_of_all_of_them(tmp_path, monkeypatch, capsys):
    """`thunder asr features` reads each file that can be read and names each of the others."""
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    names = {}
    for number, (name, (make, *_)) in enumerate((READ | REFUSED).items()):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        path = make(folder)
        names[f"{number:02d}"] = name
        path.rename(sounds / f"{number:02d}{path.suffix}")
    (sounds / "notes.txt").write_text("read me")
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["asr", "features", str(sounds), "--features", "logmel", "--long-audio", "windows"]
    words += ["--out", str(tmp_path / "out"), "--json"]
    assert cli.main([*words, "--keep-going"]) == 0
    report = json.loads(capsys.readouterr().out)
    left_out = {re.search(r"/(\d\d)\.\w+: ", fault)[1] for fault in report["faults"]}
    assert {names[number] for number in left_out} == set(REFUSED)
    assert report["utterances"] == len(READ) and report["notes"][HEADERLESS] == 7 and report["notes"]["is silent"] == 3
    assert report["input_notes"] == [f"{sounds}: files that are no recordings were passed over: 1 .txt"]
    assert cli.main(words) == 2
    assert f"{len(REFUSED)} of {len(names)} recordings cannot be used" in capsys.readouterr().err


ENCODED = {
    "a.m4a": ("-c:a", "aac"), "a.mp4": ("-c:a", "aac"), "a.aac": ("-c:a", "aac", "-f", "adts"),
    "a.webm": ("-c:a", "libopus"), "a.caf": ("-c:a", "alac"), "a.wma": ("-c:a", "wmav2"), "a.opus": ("-c:a", "libopus"),
    "a.mp3": ("-write_xing", "0", "-q:a", "4"), "b.mp3": ("-write_xing", "0", "-b:a", "64k"),
    "a_phone.wav": ("-ar", "8000", "-c:a", "pcm_mulaw"), "adpcm.wav": ("-c:a", "adpcm_ima_wav"),
}  # fmt: skip


@pytest.mark.skipif(not FFMPEG, reason="needs ffmpeg")
@pytest.mark.parametrize("name", ENCODED)
def test_what_ffmpeg_encodes_is_read(tmp_path, name):
    path = convert(save(tmp_path / "source.wav", X), tmp_path / name, *ENCODED[name])
    found = read_recording(path)
    assert found.seconds == pytest.approx(SECONDS, abs=0.15) and not found.silent
