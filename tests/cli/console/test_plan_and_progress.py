"""A job in a terminal: rows of the plan, the result, the next commands, and findings with their fixes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from version_artifacts import ARTIFACTS

from thunder.cli.console import plan_and_progress
from thunder.launcher.plan import Plan, RowCounts, read_plan


def plan_of(name: str) -> Plan:
    return read_plan(ARTIFACTS / "runs" / name)


def test_the_rows_of_a_plan_hold_the_numbers_of_its_file():
    stored = json.loads((ARTIFACTS / "runs" / "corrector" / "plan.json").read_text(encoding="utf-8"))
    rows = dict(plan_and_progress.plan_rows(plan_of("corrector")))
    data, batch, settings = stored["data"], stored["batch"], stored["settings"]
    assert rows["model"].startswith(f"{stored['model']['name']} (")
    assert rows["rows"].startswith(
        f"{data['train']['rows']} train, {data['valid']['rows']} valid, {data['test_rows']} test; "
    )
    assert rows["batch"].startswith(f"{batch['per_rank']} per rank, {batch['global']} global")
    assert f"rank {settings['lora_rank']}, scale {settings['lora_scale']:g}" in rows["LoRA"]
    assert rows["optimizer"].startswith(f"AdamW, {settings['learning_rate']:g} after {settings['warmup']} updates")


def test_a_plan_of_a_recognizer_has_no_lora_and_says_its_features():
    rows = dict(plan_and_progress.plan_rows(plan_of("recognizer")))
    assert "LoRA" not in rows and "features" in rows and "head" in rows


def test_rows_over_the_limit_are_counted_and_named():
    counts = RowCounts(
        rows=9, rows_cut_at_limit=2, rows_left_out=6, left_out_sources=tuple(f"r{number}" for number in range(6))
    )
    assert plan_and_progress.over_limit("train", counts, 256) == [
        ("over limit", "train: 2 rows cut at 256 tokens"),
        ("over limit", "train: 6 rows left out, their completion lies beyond 256 tokens: r0, r1, r2, r3, r4"),
    ]


@pytest.mark.parametrize(
    ("name", "command"),
    [("base-interrupted", "./launch.sh --model W/model"), ("recognizer", "thunder asr eval --run W"),
     ("corrector", "./launch.sh train -c W/config.yaml --seed 1")],
)  # fmt: skip
def test_the_next_commands_are_those_of_the_job(name, command):
    commands = plan_and_progress.next_commands(plan_of(name), "W", tested=False)
    assert commands[-1] == command and "./launch.sh report W" not in commands


def test_a_report_is_next_where_a_corrector_was_tested():
    assert plan_and_progress.next_commands(plan_of("corrector"), "W", tested=True)[0] == "./launch.sh report W"


def test_the_result_is_on_stdout(capsys):
    results = {"steps": 40, "epochs_begun": 2, "best_valid_loss": 1.23456, "best_step": 30}
    plan_and_progress.print_result(plan_of("corrector"), Path("elsewhere"), results)
    output = capsys.readouterr()
    assert output.out.startswith("train done: 40 steps, 2 epochs begun, ") and output.err == ""
    assert "\n  best validation loss 1.2346 at step 30\nnext:\n" in output.out


@pytest.mark.parametrize(
    ("results", "warned"),
    [({}, True), ({"best_valid_loss": None, "test": None}, True), ({"best_valid_loss": 1.0}, False),
     ({"test": {"cer_before": 1.0}}, False)],
)  # fmt: skip
def test_a_run_that_measured_nothing_says_so(results, warned):
    said = plan_and_progress.nothing_measured(plan_of("corrector"), results)
    assert bool(said and said.startswith("warning: nothing was measured")) == warned
    assert plan_and_progress.nothing_measured(plan_of("recognizer"), results) is None


def test_the_warning_is_among_the_results(capsys):
    plan_and_progress.print_result(plan_of("corrector"), Path("elsewhere"), {"steps": 1, "epochs_begun": 1})
    assert "\n  warning: nothing was measured" in capsys.readouterr().out


def test_findings_have_a_line_each_and_their_fix_below(capsys):
    findings = [
        {"state": "ok", "check": "python", "where": "here", "found": "3.12", "fix": ""},
        {"state": "failure", "check": "disk", "where": "host1", "found": "[full]", "fix": "free some"},
    ]
    plan_and_progress.print_findings(Console(no_color=True), findings)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["ok", "python", "here:", "3.12"], ["failure", "disk", "host1:", "[full]"], ["to", "fix:", "free", "some"],
    ]  # fmt: skip


def test_the_next_command_names_the_decoding_options_of_the_test():
    plan = plan_of("corrector")
    plan = plan.model_copy(update={"settings": plan.settings | {"chunk_words": 6, "change_margin": 2.0}})
    commands = plan_and_progress.next_commands(plan, "W", tested=True)
    [command] = [each for each in commands if each.startswith("./launch.sh generate")]
    assert command.endswith("W/adapters --chunk-words 6 --change-margin 2.0 '...'")
