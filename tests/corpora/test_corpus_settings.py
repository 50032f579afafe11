"""Options of the corpus builders: what they refuse, and that they read back."""

from __future__ import annotations

import pytest

from thunder.config import SettingsLayer, build_settings
from thunder.corpora.corpus_settings import BuildSettings, SyntheticSettings
from thunder.errors import ConfigError


def settings_of(kind, **given):
    return build_settings(kind, [SettingsLayer("test", {"out": "corpus"} | given)])[0]


@pytest.mark.parametrize("kind", [BuildSettings, SyntheticSettings])
@pytest.mark.parametrize(
    "given",
    [{"valid_share": 1}, {"test_share": -0.1}, {"target_cer": 0}, {"near_duplicates": "forget"}, {"seed": -1}],
    ids=lambda given: next(iter(given)),
)
def test_values_out_of_range_are_named(kind, given):
    with pytest.raises(ConfigError, match=f"'{next(iter(given))}'"):
        settings_of(kind, **given)


@pytest.mark.parametrize("kind", [BuildSettings, SyntheticSettings])
def test_resolved_settings_read_back_the_same(kind):
    settings = settings_of(kind, salt="other", near_duplicate_chars=30)
    again = settings_of(kind, **settings.resolved())
    assert again == settings and again.digest() == settings.digest() != settings_of(kind).digest()


def test_rows_is_another_name_of_inputs():
    assert settings_of(BuildSettings, rows=["a.jsonl"]).inputs == ["a.jsonl"]
