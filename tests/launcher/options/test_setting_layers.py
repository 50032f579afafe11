"""Flags, files and presets: names, aliases, who wins, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import REPOSITORY, make_rows, run_main, write_rows

from thunder.cli import main as cli
from thunder.config import build_settings, dump_yaml, old_names_of, option_names
from thunder.errors import ConfigError, UsageError
from thunder.launcher.options.setting_layers import config_layer, lora_layers
from thunder.lora.lora_settings import LoraSettings, PretrainSettings


def settings_of(config=None, **given):
    return build_settings(LoraSettings, lora_layers(config, given))


def yaml(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def run_cli(*words):
    """The command as a user starts it; returns (code, stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, "-m", "thunder", *map(str, words)], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_explicit_flags_win_over_file_over_preset_over_the_embedded_run(tmp_path):
    path = yaml(tmp_path, "seed: 4\nnum_layers: 2\npreset: safe\n")
    settings, sources = settings_of(path, seed=9)
    assert (settings.seed, sources["seed"]) == (9, "command line")
    assert (settings.num_layers, sources["num_layers"]) == (2, str(path))
    assert (settings.learning_rate, sources["learning_rate"]) == (1e-6, "preset 'safe'")
    assert sources["iters"].startswith("the embedded default")
    assert sources["patience"] == "default"


def test_a_named_model_gets_the_safe_preset_and_nothing_of_the_embedded_run(tiny_model):
    settings, sources = settings_of(model=str(tiny_model))
    safe = (
        settings.batch_size,
        settings.num_layers,
        settings.lora_rank,
        settings.learning_rate,
        settings.max_seq_length,
    )
    assert safe == (1, 4, 8, 1e-6, 256)
    assert not any("embedded" in source for source in sources.values())


@pytest.mark.expensive
@pytest.mark.parametrize(
    ("alias", "field"),
    [
        ("num_iters", "iters"),
        ("max-seq-len", "max_seq_length"),
        ("valid_every", "steps_per_eval"),
        ("eval_every", "steps_per_eval"),
        ("log_every", "steps_per_report"),
    ],
)
def test_the_users_own_names_work_in_files_and_as_flags(tmp_path, alias, field):
    settings, _ = settings_of(yaml(tmp_path, f"{alias}: 97\n"))
    assert getattr(settings, field) == 97
    code, out, err = run_main("train", "--dry-run", "--json", f"--{alias.replace('_', '-')}", 97)
    assert code == 0, err
    assert json.loads(out)["settings"][field] == 97


OLD_NAMES = {name for field in LoraSettings.model_fields for name in old_names_of(LoraSettings, field)}
SHOWN_NAMES = [name for name in option_names(LoraSettings) if name not in ("scale", "lr", *OLD_NAMES)]


@pytest.mark.expensive
@pytest.mark.parametrize("flag", SHOWN_NAMES)
def test_every_option_is_a_flag(flag):
    """--help names each field and alias."""
    assert f"--{flag.replace('_', '-')}" in help_text("train")


HELP: dict[str, str] = {}


def help_text(command):
    if command not in HELP:
        import os

        done = subprocess.run(
            [sys.executable, "-m", "thunder", command, "--help"],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"COLUMNS": "240", "TERMINAL_WIDTH": "240"},
        )
        assert done.returncode == 0, done.stderr
        HELP[command] = done.stdout
    return HELP[command]


@pytest.mark.expensive
def test_pretrain_help_names_its_options():
    for field in PretrainSettings.model_fields:
        assert f"--{field.replace('_', '-')}" in help_text("pretrain")


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rat: 1", "unknown key 'learning_rat'. Did you mean 'learning_rate'?"),
        ("iters: many", "'iters' should be a valid integer"),
        ("iters: 0", "'iters' should be greater than or equal to 1, not 0"),
        ("iters: 1.5", "'iters' should be a valid integer"),
        ("iters: true", "'iters' should be a valid integer"),
        ("learning_rate: '1e-5'", "'learning_rate' should be a valid number"),
        ("learning_rate: -1.0", "'learning_rate' should be greater than 0"),
        ("iters: 1\nnum_iters: 2", "'num_iters' and 'iters' are the same option"),
        ("iters: 1\niters: 2", "key 'iters' stands on line 1 and again on line 2"),
        ("- a list", "expected keys and values, found list"),
        ("iters: [", "run.yaml:1"),
        ("seed: 1\n[a, b]: 1", "run.yaml:2: a sequence cannot be a key"),
        ("? {a: 1}\n: 1", "run.yaml:1: a mapping cannot be a key"),
        ("a: &a {seed: 1}\n<<: *a\n<<: 3", "run.yaml:3: expected a mapping or list of mappings for merging"),
        ("seed: 2001-02-30", "run.yaml: day"),
        ("iters: 010", "'iters' should be a valid integer, not '010'"),
        ("iters: 1:30", "'iters' should be a valid integer, not '1:30'"),
        ("iters: 0x10", "'iters' should be a valid integer, not '0x10'"),
        ("iters: 1_000", "'iters' should be a valid integer, not '1_000'"),
        ("strategy: tensor", "'strategy' should be 'data'"),
        ("data: a\ntrain_data: b", "give one of them"),
        ("num_layers: 0", "'num_layers' 0 would train nothing"),
        ("grad_checkpoint: true\nlora_dropout: 0.1", "would give wrong gradients"),
        ("preset: sfae", "Did you mean 'safe'?"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, text, said):
    with pytest.raises(UsageError) as caught:
        settings_of(yaml(tmp_path, text))
    assert said in caught.value.message, caught.value.message
    assert caught.value.exit_code == 2


def test_all_faults_of_a_file_come_in_one_report(tmp_path):
    with pytest.raises(ConfigError) as caught:
        settings_of(yaml(tmp_path, "iter: 3\nseed: x\nbatch_size: 0\n"))
    assert all(said in caught.value.message for said in ("'iter'", "'seed'", "'batch_size'"))


def test_a_resolved_configuration_reads_back_the_same(tmp_path):
    settings, _ = settings_of(seed=3, lora_keys=["a.b"])
    again, _ = build_settings(LoraSettings, lora_layers(yaml(tmp_path, dump_yaml(settings.resolved())), {}))
    assert again == settings and again.digest() == settings.digest()


@pytest.mark.expensive
def test_help_answers_at_once():
    """Importing MLX or transformers alone takes longer than the whole answer should."""
    code, out, _ = run_cli("--help")
    assert code == 0 and "pretrain" in out
    code = "import sys; from thunder.cli.main import main; main(['--help']); print(sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=REPOSITORY
    ).stdout
    assert not any(f"'{heavy}'" in loaded for heavy in ("mlx", "transformers", "numpy", "pydantic"))


@pytest.mark.expensive
def test_a_dry_run_touches_no_device(tmp_path):
    """The plan comes without MLX being imported at all."""
    code = (
        "import sys, json\nfrom thunder.cli.main import main\ncode = main(['train', '--dry-run', '--json'])\n"
        "assert code == 0, code\nassert not [m for m in sys.modules if m.split('.')[0] in ('mlx', 'mlx_lm')]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["cluster"]["ranks"] == 2 and plan["batch"] == {
        "per_rank": 1, "global": 2, "grad_accumulation_steps": 1, "rows_per_update": 2,
    }  # fmt: skip
    assert plan["ranks"][1]["env"]["MLX_METAL_FAST_SYNCH"] == "0"


def test_a_misspelt_flag_or_command_is_refused_with_the_nearest():
    code, _, err = run_main("train", "--num-iter", 3)
    assert code == 2 and "--num-iters" in err
    assert run_main("trian")[0] == 2


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (["--resume"], ["--resume", "latest"]),
        (["--resume", "--json"], ["--resume", "latest", "--json"]),
        (["--resume", "run-1", "--seed", "3"], ["--resume", "run-1", "--seed", "3"]),
    ],
)
def test_resume_alone_means_the_newest_run(words, out):
    assert cli.with_resume_value(words) == out


@pytest.mark.expensive
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--model", "no/such", "--dry-run"], 2, "hf download no/such"),
        (["--model", "./nowhere", "--dry-run"], 2, "no such folder"),
        (["--model", "my model/x y", "--dry-run"], 2, "my model/x y: neither a folder that exists nor the id of a"),
        (["--data", "nowhere", "--dry-run"], 2, "no train.jsonl"),
        (["--train-data", "nowhere.jsonl", "--dry-run"], 2, "nowhere.jsonl"),
        (["--cluster", "lokal", "--dry-run"], 2, "Did you mean 'local'?"),
        (["--ranks", "2", "--cluster", "local", "--dry-run"], 2, "give one of them"),
        (["--preset", "fast", "--dry-run"], 2, "there is no preset 'fast'"),
        (["--num-layers", "99", "--dry-run"], 2, "the model has 8"),
        (["--resume-adapter-file", "data/sample", "--dry-run"], 2, "not an adapter folder"),
        (["--resume", "run-of-another-day"], 2, "there is no run 'run-of-another-day'"),
        (["--ranks", "400", "--dry-run"], 2, "'ranks' should be less than or equal to 64"),
        (
            ["--ranks", "64", "--train-data", "{three}", "--holdout", "0", "--dry-run"],
            2,
            "3 training rows for 64 ranks",
        ),
    ],
)
def test_bad_input_is_named_with_its_fix(words, code, said, tmp_path):
    three = write_rows(tmp_path / "three.jsonl", make_rows(3))
    got, _, err = run_main("train", *(word.format(three=three) for word in words))
    assert got == code, err
    assert said in err and "Traceback" not in err
    assert "to fix:" in err


def test_json_errors_are_json():
    code, out, _ = run_main("train", "--json", "--data", "nowhere")
    assert code == 2
    assert json.loads(out)["exit_code"] == 2
