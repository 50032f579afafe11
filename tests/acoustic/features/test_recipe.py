"""Recipes of features: frames a second, the digest, and what is not the same in another recipe."""

from __future__ import annotations

import pydantic
import pytest

from thunder.acoustic.features.recipe import Recipe


@pytest.mark.parametrize(
    ("recipe", "rate"),
    [({"kind": "logmel"}, 100), ({"kind": "logmel", "subsample": 4}, 25),
     ({"kind": "whisper", "model": "a" * 64}, 50), ({"kind": "whisper", "model": "a" * 64, "subsample": 2}, 25)],
)  # fmt: skip
def test_frames_per_second_are_those_of_the_kind_over_the_subsampling(recipe, rate):
    assert Recipe(**recipe).frames_per_second == rate


def test_differences_name_each_field_with_both_values():
    one, other = Recipe(kind="logmel", subsample=4, dtype="int8"), Recipe(kind="logmel", subsample=2)
    assert one.differences(other) == ["subsample 4, not 2", "dtype int8, not fp16"]
    assert one.differences(one) == [] and one.digest() != other.digest()


@pytest.mark.parametrize("recipe", [{"kind": "whisper"}, {"kind": "logmel", "model": "a" * 64}], ids=str)
def test_only_whisper_has_the_digest_of_a_model(recipe):
    with pytest.raises(pydantic.ValidationError, match="whisper has one, logmel has none"):
        Recipe(**recipe)
