"""Parts of a feature store: those of one store are merged, others are refused."""

from __future__ import annotations

import numpy as np
import pytest
from feature_stores import FP16, INT8, frames_of, write

from thunder.acoustic.features import store_parts
from thunder.acoustic.features.store import FeatureStore
from thunder.errors import ArtifactError, UsageError


def write_parts(out, count, **more):
    for number in range(1, count + 1):
        folder = store_parts.part_folder(out, (number, count))
        plan = {"inputs": "x", "part": [number, count]} | more.get(str(number), {})
        write(folder, more.get(f"recipe{number}", FP16), range(number - 1, 12, count), plan=plan)


def test_parts_of_hosts_are_put_together(tmp_path):
    write_parts(tmp_path, 3)
    with pytest.raises(ArtifactError, match="part-1-of-3, part-2-of-3, part-3-of-3, not merged yet"):
        FeatureStore.open(tmp_path)
    content = store_parts.merge_parts(tmp_path)
    store = FeatureStore.open(tmp_path, verify=True)
    assert sorted(one.id for one in store.utterances) == sorted(f"u{number}" for number in range(12))
    for position, one in enumerate(store.utterances):
        wanted = frames_of(int(one.id[1:])).astype(np.float16)
        assert np.array_equal(store.features(position), wanted)
    assert store_parts.merge_parts(tmp_path) == content


def test_parts_that_do_not_belong_together_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no finished parts"):
        store_parts.merge_parts(tmp_path)
    write_parts(tmp_path / "input", 2, **{"2": {"inputs": "y"}})
    write_parts(tmp_path / "recipe", 2, recipe2=INT8)
    write_parts(tmp_path / "missing", 2)
    (tmp_path / "missing" / "part-2-of-2" / "index.json").unlink()
    (tmp_path / "twice").mkdir()
    write(tmp_path / "twice" / "part-1-of-2", plan={"inputs": "x"})
    write(tmp_path / "twice" / "part-2-of-2", plan={"inputs": "x"}, numbers=[11, 12])
    cases = {"input": "other input", "recipe": "another recipe_digest", "missing": "part-2-of-2 is missing",
             "twice": "utterance 'u11' is in 2 parts"}  # fmt: skip
    for name, said in cases.items():
        with pytest.raises(ArtifactError, match=said):
            store_parts.merge_parts(tmp_path / name)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2", "01/2"])
def test_parts_are_written_as_i_of_n(text):
    assert store_parts.parse_part("2/3") == (2, 3)
    with pytest.raises(UsageError, match="expected I/N"):
        store_parts.parse_part(text)
