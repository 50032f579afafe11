"""Options of `thunder generate` that do not go together."""

from __future__ import annotations

import pytest

from thunder.config import SettingsLayer, build_settings
from thunder.errors import ConfigError
from thunder.evaluation.generation_settings import GenerationSettings


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"min_margin": 0.1, "change_margin": 0.1}, "both decide"),
        ({"change_edits": 2}, "needs 'change_margin'"),
        ({"raw_prompt": True, "chunk_words": 4}, "are no corrections"),
    ],
)
def test_options_that_do_not_go_together(values, fault):
    with pytest.raises(ConfigError, match=fault):
        build_settings(GenerationSettings, [SettingsLayer("test", values)])
