"""The index and the lists of a store: they come back as written, and a changed one is refused by name."""

from __future__ import annotations

import json

import pytest

from thunder import digest
from thunder.acoustic.features import store_index
from thunder.acoustic.features.store_index import ShardEntry, Utterance
from thunder.errors import ArtifactError

UTTERANCES = [Utterance("u0", 3, 0.5, "ߒߞߏ", "awa", "train", "a" * 64, {"lang": "nqo"}), Utterance("u1", 4, 0.25)]


@pytest.fixture
def entry(tmp_path):
    """The list of a shard of two utterances, in tmp_path."""
    made = ShardEntry("shard-00000.safetensors", 1080, "b" * 64, 7, 2, 0.75, 0, 3, left_out=(("u2", "is silent"),))
    lines = [store_index.utterance_line(utterance, number) for number, utterance in enumerate(UTTERANCES)]
    store_index.write_list(tmp_path, made, "c" * 64, lines)
    return made


def test_a_list_comes_back_as_it_was_written(tmp_path, entry):
    path = tmp_path / "shard-00000.jsonl"
    sha256 = digest.sha256_file(path)
    recipe, head = store_index.read_list_head(tmp_path, entry.list_file)
    assert (recipe, head.as_dict(), head.list_sha256) == ("c" * 64, entry.as_dict(), sha256)
    assert list(store_index.read_utterances(path, sha256)) == [(UTTERANCES[0], 0), (UTTERANCES[1], 1)]
    # fields without a value are not written
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[2]) == {
        "id": "u1", "frames": 4, "seconds": 0.25, "crc32": 1,
    }  # fmt: skip


def test_a_changed_list_is_refused_from_its_head_and_from_the_index(tmp_path, entry):
    path = tmp_path / entry.list_file
    sha256 = digest.sha256_file(path)
    path.write_text(path.read_text(encoding="utf-8").replace("awa", "ada"), encoding="utf-8")
    with pytest.raises(ArtifactError, match="its lines differ from those that were written"):
        store_index.read_list_head(tmp_path, entry.list_file)
    with pytest.raises(ArtifactError, match="sha256 is .* changed or truncated"):
        list(store_index.read_utterances(path, sha256))
    with pytest.raises(ArtifactError, match="missing.jsonl: .*a list that the index names"):
        list(store_index.read_utterances(tmp_path / "missing.jsonl", sha256))


def test_an_index_comes_back_and_an_edited_one_is_refused(tmp_path):
    written = store_index.write_index(tmp_path, {"width": 80})
    assert store_index.read_index(tmp_path) == written
    assert (written["schema"], written["width"]) == ("thunder.features/1", 80)
    path = tmp_path / "index.json"
    path.write_text(path.read_text().replace("80", "81"))
    with pytest.raises(ArtifactError, match="was edited or is damaged"):
        store_index.read_index(tmp_path)
    path.write_text('{"schema": "thunder.features/2"}')
    with pytest.raises(ArtifactError, match="is not part of a feature store"):
        store_index.read_index(tmp_path)
