"""What a run trains on, what is left out and named, and what is an error."""

import numpy as np
import pytest
from toy_speech import WIDTH, MemoryStore, rows, settings

from thunder.acoustic.dataset import utterances
from thunder.acoustic.features.store_index import Utterance
from thunder.errors import ArtifactError, CorpusError, UsageError


def prepare(extra=(), count=12, stores=None, **changes):
    store = MemoryStore([*rows(count), *extra])
    return utterances.prepare_dataset(settings(**changes), utterances.FeatureSet(tuple(stores or (store,))))


def said(name, text, frames, speaker="s0"):
    return Utterance(name, frames, 1.0, text, speaker), np.zeros((frames, WIDTH), np.float32)


def test_every_utterance_is_in_a_part_or_named_with_the_reason():
    odd = [
        said("silent", None, 20), said("blank", "  ", 20), said("long", "one", 5000), said("tight", "eeee", 6),
        said("tested", "eeee", 6, "s1"), said("fits", "eeee", 7),
    ]  # fmt: skip
    found = prepare(odd)
    assert found.left_out[utterances.NO_TEXT] == ("silent", "blank")
    assert found.left_out[utterances.TOO_LONG] == ("long",)
    assert found.left_out[utterances.NO_ROOM] == ("tight",)
    assert found.too_many_labels == ("tested",) and "tested" in [one.id for one in found.test]
    assert "fits" in [one.id for one in found.train]
    names = [one.id for part in (found.train, found.valid, found.test) for one in part]
    assert sorted([*names, "silent", "blank", "long", "tight"]) == sorted(
        one.id for one in found.features.stores[0].utterances
    )
    summary = found.summary()
    assert summary["left_out"][utterances.NO_ROOM] == {"rows": 1, "ids": ["tight"]}
    assert summary["train_labels"] == sum(len(one.labels) for one in found.train)


def test_downsampling_takes_room_from_the_labels():
    assert prepare([said("half", "one", 5)]).left_out[utterances.NO_ROOM] == ()
    assert prepare([said("half", "one", 5)], downsample=2).left_out[utterances.NO_ROOM] == ()
    assert "half" in prepare([said("half", "one", 5)], downsample=3).left_out[utterances.NO_ROOM]


def test_strange_characters_are_an_error_that_names_rows():
    with pytest.raises(CorpusError, match=r"costs: '\$' \(U\+0024\)"):
        prepare([said("costs", "five $", 60)])
    assert prepare([said("costs", "five $", 60)], drop="$").train[-1].text == "five"


def test_several_folders_are_one(tmp_path):
    one, two = (
        MemoryStore(rows(8)),
        MemoryStore([(Utterance("v0", 9, 1.0, "six", "s0"), np.zeros((9, WIDTH)))], "other"),
    )
    found = prepare(stores=[one, two])
    assert found.train[-1].id == "v0" and found.features.features_of(found.train[-1]).shape == (9, WIDTH)
    assert found.digest() != prepare(stores=[one]).digest()
    with pytest.raises(CorpusError, match="ids are not unique"):
        prepare(stores=[one, one])


def test_the_digest_sees_labels_features_and_split():
    base = prepare().digest()
    assert base == prepare().digest()
    assert base != prepare(test_speakers=["s3"]).digest()
    assert base != prepare(script="nko").digest()
    assert base != prepare(stores=[MemoryStore(rows(12), digest="changed")]).digest()


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(CorpusError, match="left to train on: 2 without a text"):
        prepare(stores=[MemoryStore([said("a", None, 9), said("b", None, 9, "s1"), said("c", "one", 30, "s2")])])
    with pytest.raises(UsageError, match="features of kind whisper have none"):
        prepare(stores=[MemoryStore(rows(8), kind="whisper")], warp=0.1)


def test_a_choice_of_rows_depends_on_their_ids_alone():
    found = prepare(count=40).train
    few = utterances.select_by_hash(found, 5)
    assert len(few) == 5 and set(few) <= set(utterances.select_by_hash(found, 9))
    assert {one.id for one in utterances.select_by_hash(found[::-1], 5)} == {one.id for one in few}
    assert utterances.select_by_hash(found, 1000) == list(found)


def test_folders_of_two_recipes_are_refused(tmp_path, monkeypatch):
    store = pytest.importorskip("thunder.acoustic.features.store")

    class Other(MemoryStore):
        def require(self, recipe_digest, where, recipe=None):
            raise ArtifactError(f"of another recipe than those of {where}")

    made = {"one": MemoryStore(rows(4)), "two": Other(rows(4))}
    monkeypatch.setattr(store.FeatureStore, "open", lambda path: made[path.name])
    with pytest.raises(ArtifactError, match="than those of one"):
        utterances.open_features(["one", "two"])
    assert utterances.open_features(["one"]).width == WIDTH
