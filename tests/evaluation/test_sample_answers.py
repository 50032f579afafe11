"""Adapters that are asked for answers: one that was trained has some, one that only pads is a fault."""

from __future__ import annotations

import json

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from thunder.cli.main import main
from thunder.evaluation import sample_answers
from thunder.evaluation.engines import Proposal
from thunder.lora import adapters, base_model
from thunder.lora.lora_settings import EMBEDDED_MODEL, LoraSettings


def saved(folder, named=EMBEDDED_MODEL.name, scale=0.0, base=None):
    """An adapter of the shipped base, or of another; scale: of its second matrices, which begin at 0."""
    settings = LoraSettings(num_layers=2, lora_rank=2)
    loaded = base_model.load_base_model(base or EMBEDDED_MODEL)
    layers = adapters.add_lora(loaded, settings)
    ups = [(name, mx.full(array.shape, scale)) for name, array in tree_flatten(loaded.trainable_parameters())
           if name.endswith("lora_b")]  # fmt: skip
    loaded.load_weights(ups, strict=False)
    sha256 = base_model.base_digest(base or EMBEDDED_MODEL)
    adapters.save_adapter(folder, loaded, settings, layers, {"model": named, "base_sha256": sha256})
    return folder


def checks(capsys, *words):
    code = main(["ckpt", "verify", *map(str, words), "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    return code, {check["what"]: (check["state"], check["said"]) for check in found["checks"]}


def test_an_adapter_that_says_something(tmp_path, capsys):
    folder = saved(tmp_path / "a", scale=1e-4)
    code, found = checks(capsys, folder)
    assert found["answers"][0] == "skipped" and code == 0
    code, found = checks(capsys, folder, "--probe")
    assert (code, found["answers"]) == (0, ("ok", "4 of 4 are text"))


@pytest.mark.expensive
def test_an_adapter_that_only_pads(tmp_path, capsys, monkeypatch):
    """The base's own pad token made the likeliest of all, as training had done to a real adapter."""
    folder = saved(tmp_path / "a", scale=1e-4)
    load = base_model.load_base_model

    def pads(path):
        loaded = load(path)
        real = type(loaded).__call__

        class Pads(type(loaded)):
            def __call__(self, *arguments, **words):
                logits = real(self, *arguments, **words)
                return mx.concatenate([mx.full((*logits.shape[:-1], 1), 1e4), logits[..., 1:]], -1)

        loaded.__class__ = Pads
        return loaded

    monkeypatch.setattr(base_model, "load_base_model", pads)
    code, found = checks(capsys, folder, "--probe")
    assert code == 4 and found["answers"] == ("fault", "all 4 are empty, or only padding and other special tokens")


def test_what_cannot_be_asked_is_skipped(tmp_path, capsys):
    unnamed = saved(tmp_path / "a", named=None, scale=1e-4)
    assert checks(capsys, unnamed, "--probe")[1]["answers"][0] == "skipped"
    assert checks(capsys, unnamed, "--probe", "--base", EMBEDDED_MODEL)[1]["answers"][0] == "ok"
    gone = saved(tmp_path / "b", named=str(tmp_path / "gone"), scale=1e-4)
    state, said = checks(capsys, gone, "--probe")[1]["answers"]
    assert state == "skipped" and "no such folder" in said
    empty = saved(tmp_path / "c")
    code, found = checks(capsys, empty, "--probe")
    assert code == 4 and found["trained"][0] == "fault" and found["answers"][0] == "skipped", "it is not even loaded"


@pytest.mark.parametrize("have_text, state", [([False] * 4, "fault"), ([False, True], "ok"), ([True], "ok")])
def test_one_answer_is_enough(have_text, state):
    assert sample_answers.answers_check(have_text).state == state


def test_answers_that_end_at_once_are_no_text(tmp_path, monkeypatch):
    class Silent:
        def propose(self, rows):
            return [Proposal(" ", tokens=1) for _ in rows]

    monkeypatch.setattr(sample_answers.engine_setup, "load_model_engines", lambda *words, **how: (Silent(), None))
    assert sample_answers.check_sample_answers(tmp_path, EMBEDDED_MODEL).state == "fault"
