"""A head in a file: it comes back as it was, and what is not it is named."""

import json
import struct

import mlx.core as mx
import numpy as np
import pytest
import toy_speech

from thunder.acoustic.head import head_file
from thunder.errors import ArtifactError, ModelError


@pytest.fixture(scope="module")
def made():
    return toy_speech.task(mode="trajectory+ttt")


@pytest.fixture
def saved(made, tmp_path):
    made.save(tmp_path)
    return tmp_path / head_file.HEAD_FILE


def test_a_head_comes_back_as_it_was(made, saved, tmp_path):
    found = head_file.load_head(saved)
    assert found.origin == made.origin
    for name, array in made.statistics.arrays().items():
        np.testing.assert_array_equal(found.statistics.arrays()[name], array)
    arrays = made.batch([0, 1], 0).arrays
    made.model.eval(), found.model.eval()
    one, two = (model(arrays[0], arrays[1], arrays[5]) for model in (made.model, found.model))
    assert mx.array_equal(one, two)
    made.model.train()
    made.save(tmp_path / "again")
    assert (tmp_path / "again" / head_file.HEAD_FILE).read_bytes() == saved.read_bytes()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head": "transformer-768"}, "another head: small, expected transformer-768"),
        ({"script": "nko"}, "another alphabet: latin, expected nko"),
        ({}, "another recipe: rrrr"),
    ],
)
def test_starting_from_another_kind_of_checkpoint_is_refused_by_name(made, saved, changes, said):
    wanted = head_file.HeadOrigin(
        made.settings.model_copy(update=changes), made.origin.width, made.origin.recipe, "r" * 64 if changes else "q"
    )
    with pytest.raises(ArtifactError, match=said):
        head_file.load_initial_weights(saved, made.model, wanted)


def test_another_mode_of_the_same_head_can_start_from_it(saved, tmp_path):
    plain = toy_speech.task(start_from=str(saved), seed=7)
    assert mx.array_equal(plain.model.leave.weight, head_file.load_head(saved).model.leave.weight)
    plain.save(tmp_path / "plain")
    adapted = toy_speech.task(start_from=str(tmp_path / "plain" / head_file.HEAD_FILE), mode="ttt", seed=9)
    assert mx.array_equal(adapted.model.leave.weight, plain.model.leave.weight)
    assert not mx.array_equal(adapted.model.adapter.query.weight, mx.zeros_like(adapted.model.adapter.query.weight))


def edited(path, change):
    """Rewrite the header of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def change_setting(**values):
    def change(header):
        said = json.loads(header["__metadata__"]["settings"]) | values
        header["__metadata__"]["settings"] = json.dumps(said)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_setting(head="transformer-768"), "not the tensors of a transformer-768 head"),
        (change_setting(mode="baseline"), r"not the tensors of a small head \(baseline.*: adapter"),
        (change_setting(script="nko"), "its nko alphabet differs from this version"),
        (change_setting(unheard_of=1), "unheard_of"),
        (lambda header: header["__metadata__"].update(format="other"), "format 'other'"),
        (lambda header: header.pop("__metadata__"), "not a checkpoint of an acoustic head"),
        (lambda header: header.pop("tables.codebook"), "lacks 'tables.codebook'"),
        (lambda header: header.update({"head.odd": header.pop("head.norm.bias")}), "norm.bias, odd"),
    ],
)
def test_what_is_not_this_head_is_named(saved, change, said):
    edited(saved, change)
    with pytest.raises(ArtifactError, match=said):
        head_file.load_head(saved)


def test_files_that_are_none(saved, tmp_path):
    with pytest.raises(ModelError, match="no such checkpoint"):
        head_file.load_head(tmp_path / "absent.safetensors")
    saved.write_bytes(saved.read_bytes()[:5000])
    with pytest.raises(ArtifactError, match="not a checkpoint of an acoustic head"):
        head_file.load_head(saved)
    saved.write_bytes(b"not at all")
    with pytest.raises(ArtifactError, match="not a checkpoint of an acoustic head"):
        head_file.load_head(saved)


def test_another_frame_rate_of_a_checkpoint_is_named(made, saved):
    recipe = made.origin.recipe | {"subsample": 4}
    wanted = head_file.HeadOrigin(made.settings, made.origin.width, recipe, "q" * 64)
    with pytest.raises(ArtifactError, match="another recipe: .*: subsample 1, expected 4"):
        head_file.load_initial_weights(saved, made.model, wanted)
