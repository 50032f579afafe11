"""Flags, files and presets: names, aliases, who wins, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import REPOSITORY, make_rows, run_main, write_rows
from settings_files import settings_of, yaml

from thunder.cli import main as cli
from thunder.config import build_settings, dump_yaml, old_names_of, option_names
from thunder.errors import ConfigError, UsageError
from thunder.launcher.options.setting_layers import lora_layers
from thunder.lora.lora_settings import LoraSettings, PretrainSettings


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
