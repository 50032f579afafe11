"""Options of feature extraction that do not go together are refused."""

from __future__ import annotations

import pytest

from thunder.acoustic.features.feature_settings import FeatureSettings
from thunder.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "said"),
    [({"features": "logmel", "model": "x"}, "'model' applies to 'features' whisper"),
     ({"features": "logmel", "precision": "float16"}, "'precision' applies to 'features' whisper"),
     ({"features": "whisper", "n_mels": 80}, "a Whisper model sets its own"),
     ({"features": "mfcc"}, "'features' .*whisper.*logmel"),
     ({"subsample": 0}, "'subsample'")],
)  # fmt: skip
def test_options_that_do_not_go_together(values, said):
    from thunder.config import SettingsLayer, build_settings

    with pytest.raises(ConfigError, match=said):
        build_settings(FeatureSettings, [SettingsLayer("command line", {"out": "x"} | values)])
