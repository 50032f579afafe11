"""Options of mlx_lm, in its files and on its command line: what is understood, without effect, or refused."""

from __future__ import annotations

import shlex

import pytest
from conftest import REPOSITORY
from mlx_lm.lora import CONFIG_DEFAULTS, build_parser
from settings_files import settings_of, yaml

from thunder.cli.main import main, pasted_line
from thunder.config import option_names
from thunder.errors import UsageError
from thunder.launcher.job_console import SilentConsole
from thunder.launcher.job_kinds import plan_train
from thunder.launcher.options import mlx_lm_options
from thunder.launcher.options.setting_layers import MLX_LM_LINE, config_layer
from thunder.lora.lora_settings import LoraSettings


def test_mlx_lms_yaml_is_understood(tmp_path):
    text = "train: true\nfine_tune_type: lora\nlora_parameters:\n  rank: 4\n  scale: 10.0\n  keys: [self_attn.q_proj]\n"
    settings, _ = settings_of(yaml(tmp_path, text + "learning_rate: 1e-5\nsteps_per_eval: 50\n"))
    assert (settings.lora_rank, settings.lora_scale, settings.learning_rate) == (4, 10.0, 1e-5)
    assert settings.lora_keys == ["self_attn.q_proj"]


def test_what_is_not_done_here_is_refused(tmp_path):
    with pytest.raises(UsageError, match="'fine_tune_type' can only be 'lora'"):
        settings_of(yaml(tmp_path, "fine_tune_type: dora\n"))


# as mlx_lm/examples/lora_config.yaml, key for key, those that are commented out there included; other values
MLX_LM_EXAMPLE = """\
model: "some/model"
train: true
fine_tune_type: lora
training_mode: normal
optimizer: adamw
optimizer_config:
  adamw:
    betas: [0.8, 0.95]
    eps: 1e-8
    weight_decay: 0.03
    bias_correction: false
  sgd: {momentum: 0.9}
data: "some/folder"
seed: 3
num_layers: 6
batch_size: 2
iters: 70
val_batches: 20
learning_rate: 3e-5
steps_per_report: 7
steps_per_eval: 30
resume_adapter_file: null
adapter_path: "my-adapters"
save_every: 40
test: false
test_batches: 50
max_seq_length: 512
grad_checkpoint: true
grad_accumulation_steps: 2
clear_cache_threshold: 0
report_to: null
project_name: null
config: null
mask_prompt: true
hf_dataset: false
trust_remote_code: false
lora_parameters:
  keys: ["self_attn.q_proj", "self_attn.v_proj"]
  rank: 4
  scale: 12.0
  dropout: 0.0
lr_schedule:
  name: cosine_decay
  warmup: 9
  warmup_init: 1e-7
  arguments: [2e-5, 60, 1e-6]
"""


def test_mlx_lms_example_works_and_says_what_has_no_effect(tmp_path):
    path = yaml(tmp_path, MLX_LM_EXAMPLE)
    settings, sources = settings_of(path)
    wanted = dict(
        model="some/model", data="some/folder", seed=3, num_layers=6, batch_size=2, iters=70, steps_per_report=7,
        steps_per_eval=30, adapter_path="my-adapters", save_every=40, max_seq_length=512, grad_checkpoint=True,
        grad_accumulation_steps=2, lora_keys=["self_attn.q_proj", "self_attn.v_proj"], lora_rank=4, lora_scale=12.0,
        lora_dropout=0.0, adam_betas=[0.8, 0.95], weight_decay=0.03, learning_rate=2e-5, warmup=9,
        lr_final=pytest.approx(0.05), val_batches=20, test_batches=50, clear_cache_threshold="0", adam_eps=1e-8,
        adam_bias_correction=False,
    )  # fmt: skip
    assert {field: getattr(settings, field) for field in wanted} == wanted
    assert {sources[field] for field in wanted} == {str(path)}
    notes = config_layer(LoraSettings, path).notes
    assert [note.removeprefix(f"{path}: ") for note in notes] == [
        "'sgd' of 'optimizer_config' has no effect: the optimizer is adamw",
        "'learning_rate: 3e-05' has no effect: the peak rate of 'lr_schedule', 2e-05, wins",
        "the 60 steps of 'lr_schedule' have no effect: the decay ends with the run",
        "'warmup_init' of 'lr_schedule' has no effect: the warm-up starts at 0",
        "'test: False' has no effect: the test at the end is left out with `test_rows: 0`",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "val_batches: -1",
        "test: true",
        "optimizer: AdamW\noptimizer_config: {}",
        "optimizer_config: {adam: {}, adamw: {}, muon: {}, sgd: {}, adafactor: {}}",
        "optimizer: adam\nweight_decay: 0",
        "lora_parameters:",
        "lr_schedule: null\nlr_final: 1",
    ],
)
def test_what_mlx_lm_means_as_we_do_needs_no_note(tmp_path, text):
    path = yaml(tmp_path, text)
    settings_of(path)
    assert config_layer(LoraSettings, path).notes == ()


def test_a_constant_rate_by_mlx_lms_default_is_told_from_the_decay_here(tmp_path):
    (note,) = config_layer(LoraSettings, yaml(tmp_path, "lr_schedule: null")).notes
    assert note.endswith("'lr_schedule: null' has no effect: the rate decays, `lr_final: 1` holds it")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lora_parameters: 3", "'lora_parameters' should be keys and values, not 3"),
        ("lora_parameters: [rank, 4]", "'lora_parameters' should be keys and values"),
        ("lora_rank: 8\nlora_parameters: {rank: 4}", "'lora_rank' and 'rank' of 'lora_parameters' are the same option"),
        ("scale: 8\nlora_parameters: {scale: 4}", "'scale' and 'scale' of 'lora_parameters' are the same option"),
        ("lora_parameters: {rnak: 4}", "unknown key 'rnak' in 'lora_parameters'. Did you mean 'rank'?"),
        (
            "lora_parameters: {alpha: 4}",
            "unknown key 'alpha' in 'lora_parameters'. Known are rank, scale, dropout, keys.",
        ),
        ("optimizer: adam\nweight_decay: 0.1", "'optimizer: adam' has no weight decay, and 'weight_decay' is 0.1"),
        ("optimizer: muon", "'optimizer' can only be 'adamw' or 'adam' here, not 'muon': its state"),
        ("optimizer_config: {adamw: {beta: 1}}", "unknown key 'beta' in 'adamw' of 'optimizer_config'. Did you mean"),
        ("optimizer_config: {adamw: 3}", "'adamw' of 'optimizer_config' should be keys and values, not 3"),
        (
            "weight_decay: 0.1\noptimizer_config: {adamw: {weight_decay: 0.2}}",
            "'weight_decay' and 'weight_decay' of 'adamw' of 'optimizer_config' are the same option",
        ),
        ("training_mode: dpo", "'training_mode' can only be 'normal' here, not 'dpo'"),
        ("train: false", "'train' can only be True here"),
        ("hf_dataset: {name: x}", "'hf_dataset' is not done here"),
        (
            "lr_schedule: {name: step_decay}",
            "'name' of 'lr_schedule' can only be 'cosine_decay' or 'linear_schedule' here, not 'step_decay'",
        ),
        (
            "lr_schedule: {name: cosine_decay, warmpu: 3}",
            "unknown key 'warmpu' in 'lr_schedule'. Did you mean 'warmup'?",
        ),
        ("lr_schedule: {name: cosine_decay}", "'arguments' of 'lr_schedule' should be the peak rate"),
        (
            "lr_schedule: {name: cosine_decay, arguments: [a, 3]}",
            "'arguments' of 'lr_schedule' should be the peak rate",
        ),
        ("lr_schedule: {name: cosine_decay, arguments: [1, 3, 2]}", "'arguments' of 'lr_schedule' should be"),
        (
            "lr_schedule: {name: linear_schedule, arguments: [1, 2, 3]}",
            "'arguments' of 'lr_schedule' should be the fir",
        ),
        ("lr_schedule: {name: linear_schedule, arguments: [1, 2]}", "'arguments' of 'lr_schedule' should be the first"),
        (
            "warmup: 3\nlr_schedule: {name: cosine_decay, warmup: 4, arguments: [1e-5, 3]}",
            "'warmup' and 'warmup' of 'lr_schedule' are the same option",
        ),
    ],
)
def test_what_mlx_lm_does_and_we_do_not(tmp_path, text, said):
    path = yaml(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        settings_of(path)
    assert f"{path}: {said}" in caught.value.message, caught.value.message
    assert caught.value.exit_code == 2 and caught.value.fix


def test_all_that_mlx_lm_does_and_we_do_not_comes_in_one_report(tmp_path):
    with pytest.raises(UsageError) as caught:
        settings_of(yaml(tmp_path, "fine_tune_type: dora\noptimizer: sgd\nlora_parameters: {x: 1}\n"))
    assert all(said in caught.value.message for said in ("'fine_tune_type'", "'optimizer'", "'x'"))


ACTIONS = [action for action in build_parser()._actions if action.dest != "help"]
EXAMPLE_VALUES = {"fine_tune_type": "lora", "optimizer": "adamw", "clear_cache_threshold": "2G", "report_to": "wandb"}


def test_the_parser_of_mlx_lm_is_the_one_that_was_read():
    """A new option needs a field of LoraSettings, or a place in the tables of mlx_lm_options."""
    known = {*option_names(LoraSettings), *mlx_lm_options.FLAGS, "config"}
    assert {action.dest for action in ACTIONS} - known == set()
    keys = {*known, "lora_parameters", "lr_schedule", "optimizer_config"}
    assert CONFIG_DEFAULTS.keys() - keys == set(), "a key of its YAML"


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.dest)
def test_every_flag_of_mlx_lm_is_taken_on_the_command_line(action, capsys):
    value = [] if action.nargs == 0 else [str(EXAMPLE_VALUES.get(action.dest, 3))]
    for command in ("train", "mlx_lm.lora"):
        for flag in action.option_strings:
            assert main([command, flag, *value, "--help"]) == 0, capsys.readouterr().err


def test_mlx_lms_defaults_are_those_that_the_note_names():
    ours = {"weight_decay": ("optimizer", "adam"), "lr_final": ("lr_schedule", None)}
    for name, value in mlx_lm_options.DEFAULTS.items():
        key, wanted = ours.get(name, (name, value))
        if name != "max_grad_norm":  # mlx_lm never clips
            assert CONFIG_DEFAULTS[key] == wanted, name
    same = {"lora_parameters": {"rank": 8, "dropout": 0.0, "scale": 20.0}, "iters": 1000, "seed": 0, "save_every": 100}
    assert {key: CONFIG_DEFAULTS[key] for key in same} == same


def test_adam_is_adamw_without_weight_decay(tmp_path):
    assert settings_of(optimizer="adam")[0].weight_decay == 0.0
    text = "optimizer: adam\noptimizer_config:\n  adam: {betas: [0.8, 0.9], eps: 1e-6, bias_correction: true}\n"
    text += "  adamw: {eps: 1e-3}\n"
    settings, _ = settings_of(yaml(tmp_path, text))
    wanted = (0.0, [0.8, 0.9], 1e-6, True)
    got = (settings.weight_decay, settings.adam_betas, settings.adam_eps, settings.adam_bias_correction)
    assert got == wanted
    assert settings_of(yaml(tmp_path, text), optimizer="adamw")[0].adam_eps == 1e-3, "a flag wins, as in mlx_lm"


def test_a_linear_schedule_of_mlx_lm(tmp_path):
    text = "lr_schedule: {name: linear_schedule, arguments: [2e-5, 1e-6, 60], warmup: 3}"
    settings, _ = settings_of(yaml(tmp_path, text))
    assert (settings.lr_scheduler_type, settings.learning_rate, settings.warmup) == ("linear", 2e-5, 3)
    assert settings.lr_final == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"report_to": "wandb"}, "'report_to: wandb' has no effect: no service is reported to"),
        ({"trust_remote_code": True}, "'trust_remote_code: True' has no effect: code from a model's folder is never"),
        ({"project_name": "x"}, "'project_name: x' has no effect"),
    ],
)
def test_what_has_no_effect_is_named_on_the_command_line_too(options, said):
    _, notes = mlx_lm_options.from_mlx_lm(options, "command line")
    assert [note.startswith(f"command line: {said}") for note in notes] == [True]


@pytest.mark.parametrize(
    "line",
    [
        "mlx_lm.lora --train --iters 3",
        "mlx_lm lora --train --iters 3",
        "python -m mlx_lm lora --train --iters 3",
        "/some/venv/bin/python3.11 -m mlx_lm.lora --train --iters 3",
    ],
)
def test_a_pasted_line_in_any_of_its_spellings(line):
    assert pasted_line(shlex.split(line)) == ["mlx_lm.lora", "--train", "--iters", "3"]


def test_the_words_of_other_commands_stay():
    assert pasted_line(["train", "--model", "mlx_lm.lora"]) == ["train", "--model", "mlx_lm.lora"]
    assert pasted_line([]) == []


@pytest.mark.expensive
def test_the_plan_of_a_pasted_line_names_the_defaults_that_differ():
    options = {"train": True, "model": str(REPOSITORY / "data/models/tiny-gemma4-nko"), "batch_size": 4, "ranks": 1}
    planned = plan_train(options | {"iters": 20}, None, SilentConsole(), MLX_LM_LINE)
    (note,) = [note for note in planned.plan.notes if "leaves open" in note]
    assert "num_layers 4 (mlx_lm: 16)" in note and "mask_prompt True (mlx_lm: False)" in note
    assert "batch_size" not in note and " model " not in note
