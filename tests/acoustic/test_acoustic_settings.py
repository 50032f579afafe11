"""Modes and what they are put together from; the published regime."""

import pytest
from toy_speech import settings

from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.config import SettingsLayer, build_settings
from thunder.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "baseline"),
        ({"mode": "tar"}, "tar"),
        ({"reg": "tar"}, "tar"),
        ({"mode": "tar", "reg": "tar"}, "tar"),
        ({"mode": "ttt+trajectory"}, "trajectory+ttt"),
        ({"mode": "trajectory", "use_ttt": True}, "trajectory+ttt"),
        ({"mode": "trajectory", "reg": "cr", "use_ttt": True}, "trajectory+cr+ttt"),
        ({"mode": "trajectory+tar", "control": "shuffled"}, "trajectory-shuffled+tar"),
        ({"mode": "trajectory", "reg": "none"}, "trajectory"),
    ],
)
def test_one_name_for_what_is_on(options, name):
    assert settings(**options).mode_name == name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "trajectroy"}, "'trajectroy' is no mode"),
        ({"mode": "baseline+ttt"}, "'baseline' is no mode"),
        ({"mode": "ttt+ttt"}, "names a part twice"),
        ({"mode": "tar+cr"}, "two regularizers"),
        ({"mode": "tar", "reg": "cr"}, "two regularizers"),
        ({"mode": "tar", "reg": "none"}, "two regularizers"),
        ({"control": "shuffled"}, "give --mode trajectory"),
        ({"grad_checkpoint": True}, "not done for acoustic heads"),
        ({"ttt_lr": -0.1}, "ttt_lr"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        build_settings(AcousticSettings, [SettingsLayer("test", {"features": ["x"]} | options)])


def test_the_defaults_are_the_published_regime():
    made = AcousticSettings(features=["x"])
    assert (made.learning_rate, made.batch_size, made.patience, made.dropout, made.seed) == (3e-4, 32, 10, 0.1, 42)
    assert (made.ttt_chunk_size, made.ttt_lr, made.ttt_cap, made.weight_decay) == (16, 0.01, True, 0.01)
    assert made.regularizer == ("none", 0.0) and settings(mode="cr").regularizer == ("cr", 0.2)
    assert settings(mode="tar", reg_weight=0.3).regularizer == ("tar", 0.3)
