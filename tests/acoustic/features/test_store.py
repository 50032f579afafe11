"""Feature stores: what is read is what was written, and every corruption is named."""

from __future__ import annotations

import numpy as np
import pytest
from feature_stores import (
    CORRUPTIONS,
    FP16,
    INT8,
    WIDTH,
    frames_of,
    put_nan,
    write,
)

from thunder.acoustic.features.store import FeatureStore, Utterance
from thunder.errors import ArtifactError


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.parametrize("recipe", [FP16, INT8], ids=lambda recipe: recipe.dtype)
def test_what_is_read_is_what_was_written(tmp_path, recipe):
    content = write(tmp_path, recipe)
    store = FeatureStore.open(tmp_path, verify=True)
    assert len(store) == content["utterances"] == 12 and len(content["shards"]) > 2
    assert (store.recipe, store.recipe_digest, store.width) == (recipe, recipe.digest(), WIDTH)
    for position in np.random.default_rng(0).permutation(12):
        wanted, found = frames_of(position), store.features(int(position))
        assert found.dtype == np.float32
        if recipe.dtype == "fp16":
            assert np.array_equal(found, wanted.astype(np.float16).astype(np.float32))
        else:
            assert (np.abs(found - wanted) <= np.abs(wanted).max(1, keepdims=True) / 254 + 1e-6).all()
        said = store.utterances[position]
        assert said == Utterance(
            f"u{position}", len(wanted), 0.5, f"ߒߞߏ {position}", said.speaker, "train", "a" * 64, {"lang": "nqo"}
        )
    with pytest.raises(IndexError):
        store.features(12)


def test_the_digest_follows_data_and_texts(tmp_path):
    first, again, other = (write(tmp_path / name, numbers=numbers) for name, numbers in
                           (("a", [1, 2]), ("b", [1, 2]), ("c", [2, 1])))  # fmt: skip
    assert first["checksum"] == again["checksum"] != other["checksum"]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_is_named(folder, name):
    FeatureStore.open(folder, verify=True)
    damage, said = CORRUPTIONS[name]
    damage(folder)
    with pytest.raises(ArtifactError, match=said):
        FeatureStore.open(folder, verify=True)


@pytest.mark.parametrize(("lost", "named"), [(1, "u5"), (4 * 4, "u5"), (4 * 5, "u4"), (4 * 30, "u0")])
def test_a_torn_shard_of_int8_names_the_first_utterance_that_is_not_whole(tmp_path, lost, named):
    # the scales stand at the end: 3, 4, 5, 6, 3 and 4 of them
    write(tmp_path, INT8, range(6), shard_bytes=10**6)
    path = tmp_path / "shard-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(ArtifactError, match=f"utterance '{named}': torn"):
        FeatureStore.open(tmp_path)


def test_without_verify_sizes_are_checked_and_nan_is_found_on_reading(folder):
    put_nan(folder)
    store = FeatureStore.open(folder)
    assert store.features(1).shape == (4, WIDTH)
    with pytest.raises(ArtifactError, match="utterance 'u0': its features are not finite"):
        store.features(0)


def test_features_of_another_recipe_are_refused(folder):
    store = FeatureStore.open(folder)
    store.require(FP16.digest(), "the checkpoint")
    with pytest.raises(ArtifactError, match="another recipe .*kind logmel.* than those of the checkpoint"):
        store.require(INT8.digest(), "the checkpoint")
    slower = FP16.model_copy(update={"subsample": 2 * FP16.subsample})
    rates = rf"{FP16.frames_per_second:g} frames per second, not {slower.frames_per_second:g}; subsample"
    with pytest.raises(ArtifactError, match=rates):
        store.require(slower.digest(), "the checkpoint", slower)
    assert FP16.differences(INT8) == ["dtype fp16, not int8"]
