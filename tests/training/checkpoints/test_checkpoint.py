"""Checkpoints: whole or absent, the newest whole one is used, damage is named to the file and the tensor."""

from __future__ import annotations

import shutil

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from small_checkpoints import FILES, FINGERPRINT, SmallTask, newest, save_checkpoints, state_of, trained

from thunder.errors import ArtifactError
from thunder.lora.lora_settings import LoraSettings
from thunder.training.checkpoints import checkpoint
from thunder.training.state import TrainState
from thunder.training.step import make_optimizer


@pytest.fixture
def saved(tmp_path):
    return save_checkpoints(tmp_path)


def test_everything_comes_back_to_the_bit(saved):
    root, task, optimizer = saved
    fresh, fresh_optimizer = SmallTask(), make_optimizer(LoraSettings(learning_rate=0.1))
    state = checkpoint.restore_checkpoint(checkpoint.newest_checkpoint(root), fresh, fresh_optimizer, TrainState)
    assert state == state_of(6)
    for ours, theirs in ((fresh.model.parameters(), task.model.parameters()), (fresh_optimizer.state, optimizer.state)):
        ours, theirs = dict(tree_flatten(ours)), dict(tree_flatten(theirs))
        assert ours.keys() == theirs.keys() and len(ours) > 1
        assert all(mx.array_equal(ours[name], theirs[name]).item() for name in ours)


def test_two_are_kept_and_nothing_lies_about(saved):
    root, task, optimizer = saved
    assert sorted(path.name for path in root.iterdir()) == ["step-0000004", "step-0000006"]
    # what a killed writer left goes with the next one, and one of the same step gives way
    shutil.copytree(root / "step-0000006", root / ".step-0000008.77")
    shutil.copytree(root / "step-0000006", root / ".step-0000006.old")
    checkpoint.save_checkpoint(root, task, optimizer, state_of(6), fingerprint=FINGERPRINT, ranks=2)
    assert sorted(path.name for path in root.iterdir()) == ["step-0000004", "step-0000006"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "empty"])
def test_a_damaged_one_is_named_and_the_one_before_is_used(saved, name, damage):
    root = saved[0]
    path = root / "step-0000006" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes({"flip": bytes(content), "truncate": bytes(content[:-3]), "empty": b""}[damage])
    said: list[str] = []
    assert newest(root, said) == "step-0000004"
    assert len(said) == 1 and str(path) in said[0]
    if name != checkpoint.MANIFEST:
        assert {"flip": "changed", "truncate": "truncated: ", "remove": "missing", "empty": "truncated: 0 bytes"}[
            damage
        ] in said[0]


def test_weights_of_another_run_are_found_out(saved, tmp_path):
    task, optimizer = trained(seed=2)
    other = checkpoint.save_checkpoint(
        tmp_path / "other", task, optimizer, state_of(6), fingerprint=FINGERPRINT, ranks=2
    )
    shutil.copy(other / checkpoint.WEIGHTS, saved[0] / "step-0000006")
    said: list[str] = []
    assert newest(saved[0], said) == "step-0000004"
    assert "weights.safetensors: its SHA-256 is not the manifest's: changed, in bias, weight" in said[0]


def test_none_whole_is_an_error_and_none_at_all_is_a_fresh_start(saved, tmp_path):
    root = saved[0]
    for folder in checkpoint.checkpoint_folders(root):
        (folder / checkpoint.WEIGHTS).unlink()
    with pytest.raises(ArtifactError, match="none of 2 checkpoints is whole"):
        newest(root)
    assert checkpoint.newest_checkpoint(tmp_path / "empty") is None


def test_a_half_written_one_is_not_seen(saved):
    root = saved[0]
    shutil.copytree(root / "step-0000006", root / ".step-0000008.77")
    assert newest(root) == "step-0000006"


def test_one_of_another_model_is_refused(saved):
    other, optimizer = trained(width=5)
    with pytest.raises(ArtifactError, match="not this model's tensors: weight"):
        checkpoint.restore_checkpoint(checkpoint.newest_checkpoint(saved[0]), other, optimizer, TrainState)


def test_the_best_weights_come_back(saved, tmp_path):
    best = tmp_path / "output" / "best"
    wanted = (best / "adapters.safetensors").read_bytes()
    (best / "adapters.safetensors").write_bytes(b"of a step that is gone")
    checkpoint.restore_best_weights(saved[0] / "step-0000006", best)
    assert (best / "adapters.safetensors").read_bytes() == wanted
    shutil.rmtree(best)
    checkpoint.restore_best_weights(saved[0] / "step-0000006", best)
    assert (best / "adapters.safetensors").read_bytes() == wanted
