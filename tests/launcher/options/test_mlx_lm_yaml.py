"""Configuration files of mlx_lm: what is understood, what has no effect, and what is refused."""

from __future__ import annotations

import pytest
from settings_files import settings_of, yaml

from thunder.errors import UsageError
from thunder.launcher.options.setting_layers import config_layer
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
        lr_final=pytest.approx(0.05),
    )  # fmt: skip
    assert {field: getattr(settings, field) for field in wanted} == wanted
    assert {sources[field] for field in wanted} == {str(path)}
    notes = config_layer(LoraSettings, path).notes
    assert [note.removeprefix(f"{path}: ") for note in notes] == [
        "'sgd' of 'optimizer_config' has no effect: the optimizer is AdamW",
        "'learning_rate: 3e-05' has no effect: the peak rate of 'lr_schedule', 2e-05, wins",
        "the 60 steps of 'lr_schedule' have no effect: the decay ends with the run",
        "'warmup_init' of 'lr_schedule' has no effect: the warm-up starts at 0",
        "'val_batches: 20' has no effect: every validation goes over the whole validation set",
        "'test_batches: 50' has no effect: `test_rows` says how much is tested",
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
        ("optimizer: adam", "'optimizer: adam' is not done here: AdamW is"),
        ("optimizer: adam\nweight_decay: 0.1", "'optimizer: adam' is not done here: AdamW is"),
        ("optimizer: muon", "'optimizer' can only be 'adamw' here, not 'muon'"),
        ("optimizer_config: {adamw: {eps: 1e-6}}", "'eps' of 'adamw' of 'optimizer_config' can only be 1e-08 here"),
        (
            "optimizer_config: {adamw: {bias_correction: true}}",
            "'bias_correction' of 'adamw' of 'optimizer_config' can",
        ),
        ("optimizer_config: {adamw: {beta: 1}}", "unknown key 'beta' in 'adamw' of 'optimizer_config'. Did you mean"),
        ("optimizer_config: {adamw: 3}", "'adamw' of 'optimizer_config' should be keys and values, not 3"),
        (
            "weight_decay: 0.1\noptimizer_config: {adamw: {weight_decay: 0.2}}",
            "'weight_decay' and 'weight_decay' of 'adamw' of 'optimizer_config' are the same option",
        ),
        ("training_mode: dpo", "'training_mode' can only be 'normal' here, not 'dpo'"),
        ("train: false", "'train' can only be True here"),
        ("hf_dataset: {name: x}", "'hf_dataset' is not done here"),
        ("trust_remote_code: true", "'trust_remote_code' is not done here"),
        ("report_to: wandb", "'report_to' is not done here, but is 'wandb'"),
        (
            "lr_schedule: {name: step_decay}",
            "'name' of 'lr_schedule' can only be 'cosine_decay' here, not 'step_decay'",
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
