"""Settings of the loop: epochs are counted as the loop makes them, refused where too many; a run has a name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunder.cli.main import main
from thunder.config import SettingsLayer, build_settings
from thunder.errors import ConfigError
from thunder.lora.lora_settings import LoraSettings, PretrainSettings
from thunder.parallel import row_order
from thunder.training.loop_settings import (
    RUNTIME_OPTIONS,
    check_max_epochs,
    iterations_of_epochs,
    late_warmup,
    planned_epochs,
)


@given(rows=st.integers(1, 40), batch=st.integers(1, 50), updates=st.integers(1, 60))
def test_planned_epochs_are_those_that_the_loop_makes(rows, batch, updates):
    last = list(row_order.plan_steps(rows, batch, 0, until=updates))[-1]
    found = planned_epochs(updates, rows, batch)
    assert last.epoch < found <= last.epoch + 1, "the last step lies in the last pass that was begun"


@given(rows=st.integers(1, 40), batch=st.integers(1, 50), epochs=st.integers(1, 9), accumulation=st.integers(1, 5))
def test_the_iterations_of_whole_epochs_make_as_many(rows, batch, epochs, accumulation):
    iters = iterations_of_epochs(epochs, rows, batch, accumulation)
    updates = LoraSettings(iters=iters, grad_accumulation_steps=accumulation).total_updates
    assert planned_epochs(updates, rows, batch * accumulation) == epochs
    assert iterations_of_epochs(0.001, rows, batch, accumulation) == accumulation, "at least one update"


@pytest.mark.parametrize(("warmup", "iters", "said"), [(0, 1, False), (9, 10, False), (10, 10, True), (50, 10, True)])
def test_a_warmup_that_does_not_end_before_the_run_is_said(warmup, iters, said):
    note = late_warmup(LoraSettings(warmup=warmup, iters=iters, learning_rate=1e-3))
    assert bool(note) == said
    if warmup == 50:
        assert note.startswith("warning: a warm-up of 50 updates in a run of 10: the rate only rises, to 0.0002 of")


def test_more_than_the_most_is_refused_and_as_many_are_not():
    check_max_epochs(10.0, 10, 100)
    with pytest.raises(
        ConfigError, match=r"iters 101 make 10\.10 epochs over the training rows, more than max_epochs 10"
    ):
        check_max_epochs(10.1, 10, 101)


def test_corpora_have_a_limit_of_ten_and_it_decides_nothing_of_what_is_computed():
    lora = build_settings(LoraSettings, [SettingsLayer("test", {})])[0]
    assert (lora.max_epochs, PretrainSettings.model_fields["max_epochs"].default) == (10, 10)
    assert "max_epochs" in RUNTIME_OPTIONS and lora.digest() == lora.model_copy(update={"max_epochs": 99}).digest()


def test_the_old_name_is_read_from_files_and_changes_no_digest(tmp_path):
    layers = [[SettingsLayer("test", {name: 7})] for name in ("max_wraps", "max_epochs")]
    old, new = (build_settings(LoraSettings, each)[0] for each in layers)
    assert old == new and old.max_epochs == 7 and old.resolved()["max_epochs"] == 7
    assert old.digest() == LoraSettings().digest()


@pytest.mark.expensive
def test_train_refuses_before_anything_is_started(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path))
    words = ["train", "--ranks", "1", "--batch-size", "4", "--dry-run"]
    assert main([*words, "--iters", "800"]) == 0, "320 rows, four at once: ten times"
    assert main([*words, "--iters", "801"]) == 2
    said = capsys.readouterr().err
    assert "make 10.01 epochs over the training rows, more than max_epochs 10" in said and "--max-epochs" in said
    assert main([*words, "--iters", "801", "--max-epochs", "11"]) == 0
    assert main([*words, "--iters", "801", "--max-wraps", "11"]) == 0, "its name in version 0.1"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.expensive
def test_a_run_can_be_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path))
    assert main(["train", "--dry-run", "--json", "--ranks", "1", "--run-name", "matrix.cell-s1"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == "matrix.cell-s1"
    assert main(["train", "--dry-run", "--ranks", "1", "--run-name", "../elsewhere"]) == 2
    assert "'run_name'" in capsys.readouterr().err
