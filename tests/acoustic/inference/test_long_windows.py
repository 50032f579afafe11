"""Windows over long utterances: they fit the head, cover every frame once, and no recording is a traceback."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import toy_speech

from thunder.acoustic.dataset.utterances import AcousticExample
from thunder.acoustic.head import ctc_head
from thunder.acoustic.inference.long_windows import Window, join_windows, plan_windows
from thunder.acoustic.inference.recognizer import Recognizer


@pytest.mark.parametrize("downsample", [1, 2, 3, 4])
@pytest.mark.parametrize("frames", [1, 100, 511, 512, 513, 529, 895, 896, 897, 5000])
def test_windows_fit_the_head_and_cover_every_frame(frames, downsample):
    windows = plan_windows(frames, 512, downsample)
    assert windows[0].begin == 0 and windows[-1].end == frames
    for window in windows:
        padded = -(-(window.end - window.begin) // 16) * 16
        assert window.begin % downsample == 0 and -(-padded // downsample) <= 512
    for one, other in zip(windows, windows[1:], strict=False):
        assert one.begin < other.begin < one.end < other.end
    assert len(windows) == 1 or frames > 512 * downsample - 16


def test_without_a_limit_there_is_one_window():
    assert plan_windows(100_000, None, 2) == [Window(0, 100_000)]


@pytest.mark.parametrize("downsample", [1, 2, 3])
@pytest.mark.parametrize("frames", [600, 1111, 3000])
def test_joined_outputs_of_a_framewise_function_are_those_of_the_whole(frames, downsample):
    values = np.arange(frames)[:, None]
    windows = plan_windows(frames, 512 // downsample, downsample)
    outputs = [np.pad(values[w.begin : w.end : downsample], [(0, 9), (0, 0)], constant_values=-1) for w in windows]
    assert len(windows) > 1 and np.array_equal(join_windows(windows, outputs, downsample), values[::downsample])


@pytest.mark.parametrize("mode", ["baseline", "trajectory+ttt"])
def test_an_utterance_longer_than_the_positions_is_recognized(monkeypatch, mode):
    made = toy_speech.task(mode=mode)
    short = sorted(made.dataset.test, key=lambda example: example.frames)
    features = np.concatenate([made.dataset.features.features_of(example) for example in short] * 2)
    assert len(features) > 128

    class OneLong:
        def features_of(self, example):
            return features if example.id == "long" else made.dataset.features.features_of(example)

    long = AcousticExample("long", 0, 0, len(features), (), "")
    whole = dict(row_of(made, OneLong(), [long, *short]))
    assert "windows" not in whole["long"]
    sizes = replace(ctc_head.HEAD_SIZES["small"], positions=64)
    monkeypatch.setitem(ctc_head.HEAD_SIZES, "small", sizes)
    limited = toy_speech.task(mode=mode)
    assert limited.model.max_frames == 64
    rows = dict(row_of(limited, OneLong(), [long, *short]))
    assert rows["long"]["windows"] == len(plan_windows(len(features), 64, 1)) > 2
    assert rows["long"]["frames"] == whole["long"]["frames"] == len(features)
    assert all("windows" not in rows[example.id] for example in short)
    if mode != "baseline":
        assert rows["long"]["ttt_drift"] > 0


def row_of(made, features, examples):
    recognizer = Recognizer(made.model, made.statistics, made.settings)
    return [(example.id, row) for example, row in recognizer.recognize(features, examples, 3)]
