"""The spectrogram against transformers' WhisperFeatureExtractor, and the filters against their closed form."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import WhisperFeatureExtractor
from transformers.audio_utils import mel_filter_bank

from thunder.acoustic.features.log_mel import FRAMES, log_mel, mel_filters


def sound(samples, seed=0):
    draw = np.random.default_rng(seed)
    time = np.arange(samples) / 16000
    chirp = np.sin(2 * np.pi * (200 + 300 * time) * time) * np.exp(-time)
    return (0.5 * chirp + 0.01 * draw.standard_normal(samples)).astype(np.float32)


SOUNDS = {
    "a second": sound(16000),
    "odd length": sound(12345, 1),
    "one sample": np.array([0.3], np.float32),
    "shorter than a window": sound(170, 2),
    "30 s": sound(480000, 3),
    "nearly 30 s": sound(479_900, 4),
    "silence": np.zeros(8000, np.float32),
    "a click at the end": np.eye(1, 16000, 15999, dtype=np.float32)[0],
    "full scale": np.sign(sound(20000, 5)),
}


@pytest.mark.parametrize("n_mels", [80, 128])
def test_filters_are_slaney_s(n_mels):
    wanted = mel_filter_bank(201, n_mels, 0.0, 8000.0, 16000, norm="slaney", mel_scale="slaney")
    assert np.abs(mel_filters(n_mels) - wanted).max() < 1e-12
    centre, width = mel_filters(n_mels).argmax(0), 40.0
    assert (np.diff(centre) >= 0).all()
    # each triangle has area 1 in Hz, as far as bins of 40 Hz can tell
    assert np.abs(mel_filters(n_mels)[:, -20:].sum(0) * width - 1).max() < 0.05


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("name", SOUNDS)
def test_equals_transformers(name, n_mels):
    samples = SOUNDS[name]
    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    padded = np.pad(samples, (0, 480000 - len(samples)))
    # the NumPy way of the extractor: with torch installed the call takes another one, of less precision
    wanted = extractor._np_extract_fbank_features(np.array([padded]), device="cpu")[0].T
    whole = log_mel(samples, n_mels, FRAMES)
    assert whole.shape == wanted.shape == (3000, n_mels) and whole.dtype == np.float32
    assert np.abs(whole - wanted).max() < 1e-5
    valid = log_mel(samples, n_mels)
    assert len(valid) == -(-len(samples) // 160)
    assert np.array_equal(valid, whole[: len(valid)])


def test_equals_the_extractor_s_own_call():
    samples = SOUNDS["odd length"]
    found = WhisperFeatureExtractor(feature_size=80)(samples, sampling_rate=16000, return_tensors="np")
    assert np.abs(log_mel(samples, 80, FRAMES) - found["input_features"][0].T).max() < 1e-5
