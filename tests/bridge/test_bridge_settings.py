"""Options of the bridge: the names that they had in earlier versions are read."""

from __future__ import annotations

import pytest

from thunder.bridge.bridge_settings import ProposeSettings, ScoreSettings, ServeSettings
from thunder.config import SettingsLayer, build_settings, load_yaml


@pytest.mark.parametrize("kind", [ProposeSettings, ScoreSettings, ServeSettings])
def test_old_keys_of_a_configuration_file_are_read(kind, tmp_path):
    path = tmp_path / "bridge.yaml"
    path.write_text("rules: mine.yaml\nwindow: 6\n", encoding="utf-8")
    settings, _ = build_settings(kind, [SettingsLayer(str(path), load_yaml(path))])
    assert (settings.gate_rules, settings.chunk_words) == ("mine.yaml", 6)
