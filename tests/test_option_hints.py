"""Hints for unknown options come from meaning, then from spelling, and never from chance."""

from __future__ import annotations

import importlib

import pytest
from typer.main import get_command

from thunder.cli.main import COMMANDS, main
from thunder.option_hints import SYNONYMS, best_hint


def flags_of(command):
    own = {flag for param in command.params for flag in param.opts if flag.startswith("--")}
    return own.union(*(flags_of(each) for each in getattr(command, "commands", {}).values()))


def test_every_target_is_an_option_of_some_command():
    modules = [importlib.import_module(module) for module, _ in COMMANDS.values()]
    flags = set().union(*(flags_of(get_command(module.app)) for module in modules))
    targets = {f"--{target.replace('_', '-')}" for group in SYNONYMS.values() for target in group}
    assert targets - flags == set()
    train = flags_of(get_command(importlib.import_module(COMMANDS["train"][0]).app))
    taken = {name for name in SYNONYMS if f"--{name.replace('_', '-')}" in train}
    assert taken <= {"train", "epochs", "num_epochs", "num_train_epochs"}, "options of `train` that others lack"


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("--lora-alpha", ["--lora-rank", "--lora-scale"], "--lora-scale"),
        ("per_device_train_batch_size", ["batch_size", "patience"], "batch_size"),
        ("output_dir", ["adapter_path", "data"], "adapter_path"),
        ("--lerning-rate", ["--learning-rate", "--warmup"], "--learning-rate"),
        ("epochs", ["hypothesis", "epoch_log"], ""),
        ("--epochs", ["--hypothesis", "--prefix-cache"], ""),
        ("--steps", ["--speed"], ""),
    ],
)
def test_meaning_goes_before_spelling(name, known, hint):
    assert best_hint(name, known) == hint


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["train", "--lora-alpha", "16"], "--lora-scale"),
        (["train", "--num-gpus", "2"], "--ranks"),
        (["pretrain", "--epochs", "2"], "--iters"),
        (["eval", "--qwertyuiop", "2"], ""),
        (["asr", "train", "--eval-steps", "2"], "--steps-per-eval"),
    ],
)
def test_a_command_names_the_option_that_is_meant(words, hint, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "No such option" in said and "hypothesis" not in said
    assert ("Possible options" in said) == bool(hint) and hint in said
