"""Which utterance is in which part: what the user names, what the features say, and what is held out by speaker."""

import json

import pytest
from toy_speech import rows, settings

from thunder import digest
from thunder.acoustic.dataset import frozen_split
from thunder.acoustic.features.store_index import Utterance
from thunder.errors import ArtifactError, CorpusError


def utterances(count=40, **said):
    return [one for one, _ in rows(count, **said)]


def free(**changes):
    return settings(**({"test_speakers": [], "valid_speakers": []} | changes))


def test_named_speakers_and_ids_are_taken_and_the_test_wins():
    found = frozen_split.decide_split(
        utterances(), settings(test_speakers=["s1"], test_ids=["u*0"], valid_ids=["u0", "u2"])
    )
    for one in utterances():
        wanted = (
            "test" if one.speaker == "s1" or one.id.endswith("0")
            else "valid" if one.speaker == "s2" or one.id == "u2"
            else "train"
        )  # fmt: skip
        assert found.part_by_id[one.id] == wanted
    assert found.speakers_in_several_parts(utterances()) == ["s0", "s2"]


def test_a_name_that_means_nothing_is_an_error_that_says_what_there_is():
    with pytest.raises(CorpusError, match="--test-speakers lucas") as caught:
        frozen_split.decide_split(utterances(), settings(test_speakers=["lucas"], valid_ids=["x*"]))
    assert "--valid-ids x" in caught.value.message and "s0, s1" in caught.value.fix


def test_the_features_own_split_is_kept():
    said = [
        Utterance(f"u{n}", 9, 0.1, "one", f"s{n}", part)
        for n, part in enumerate(["train", "dev", "test", "validation", "train"])
    ]
    found = frozen_split.decide_split(said, free())
    assert [found.part_by_id[one.id] for one in said] == ["train", "valid", "test", "valid", "train"]
    assert found.speakers_in_several_parts(said) == []
    with pytest.raises(CorpusError, match="'u0': its split is 'heldout'"):
        frozen_split.decide_split([Utterance("u0", 9, 0.1, "one", None, "heldout")], free())


@pytest.mark.parametrize("speakers", [3, 7, 20])
def test_what_is_held_out_here_never_parts_a_speaker(speakers):
    said = utterances(60, speakers=speakers)
    found = frozen_split.decide_split(said, free(holdout=0.2))
    assert found.speakers_in_several_parts(said) == []
    assert all(found.ids(part) for part in ("train", "valid", "test"))
    assert found.part_by_id == frozen_split.decide_split(said[::-1], free(holdout=0.2)).part_by_id, (
        "the order of utterances is no matter"
    )


def test_without_enough_speakers_it_goes_by_text():
    said = [Utterance(f"u{n}", 9, 0.1, f"text {n // 2}") for n in range(400)]
    found = frozen_split.decide_split(said, free(holdout=0.1))
    for one, other in zip(said[::2], said[1::2], strict=True):
        assert found.part_by_id[one.id] == found.part_by_id[other.id], "two recordings of one text stay together"
    assert all(20 <= len(found.ids(part)) <= 70 for part in ("valid", "test"))
    assert "by hash (speakers are too few)" in found.reasons[0]


def test_a_frozen_split_is_taken_as_it_is_and_nothing_else(tmp_path):
    said = utterances()
    first = frozen_split.decide_split(said, settings())
    path = tmp_path / "split.json"
    digest.write_json(path, first.as_json(said))
    again = frozen_split.decide_split(said, free(split=str(path)))
    assert again.part_by_id == first.part_by_id and again.as_json(said)["ids"] == first.as_json(said)["ids"]
    with pytest.raises(CorpusError, match="'u39' of .* has no features"):
        frozen_split.read_split(path, said[:-1])
    with pytest.raises(CorpusError, match="'new' has features but is in no part"):
        frozen_split.read_split(path, [*said, Utterance("new", 9, 0.1)])
    content = json.loads(path.read_text())
    content["ids"]["test"].append(content["ids"]["train"].pop())
    digest.write_json(path, content)
    with pytest.raises(ArtifactError, match="the ids of train, test were changed"):
        frozen_split.read_split(path, said)
    path.write_text("{")
    with pytest.raises(CorpusError, match="not a split"):
        frozen_split.read_split(path, said)


def test_twins_and_an_empty_training_part_are_refused():
    with pytest.raises(CorpusError, match="ids are not unique"):
        frozen_split.decide_split([*utterances(4), *utterances(2)], free())
    with pytest.raises(CorpusError, match="to train on"):
        frozen_split.decide_split(utterances(8), free(test_ids=["*"]))
