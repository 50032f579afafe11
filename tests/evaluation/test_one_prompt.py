"""Training, test and mlx_lm with one prompt, on the shipped base: what an adapter learned is what it is asked."""

from __future__ import annotations

import importlib
import io
import json
import re
import shlex
import shutil
import sys
from contextlib import redirect_stdout

import pytest
from chat_templates import FAMILIES

import thunder
from thunder.api.generation import generate_answers
from thunder.cli.console import plan_and_progress
from thunder.evaluation.generation_settings import GenerationSettings
from thunder.launcher.plan import read_plan
from thunder.lora.lora_settings import EMBEDDED_DATA, EMBEDDED_MODEL

pytestmark = pytest.mark.slow

# the base has never seen the tokens of a thought, so it takes longer to answer after them
LONGER = {"num_layers": -1, "learning_rate": 5e-4, "lora_dropout": 0.1, "batch_size": 4, "iters": 800, "max_epochs": 20}


def base_of(folder, template):
    """A copy of the shipped base with a template; None: without one."""
    shutil.copytree(EMBEDDED_MODEL, folder)
    (folder / "chat_template.jinja").unlink()
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def trained_on(base, tmp_path, monkeypatch, **options):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return thunder.train(model=str(base), data=str(EMBEDDED_DATA), in_process=True, ranks=1, **options)


def mlx_lm_answer(command, text):
    """The answer of the printed command, run by mlx_lm's own main function."""
    words = shlex.split(command.replace("...", text))
    assert words[1:4] == ["-m", "mlx_lm", "generate"]
    before, sys.argv = sys.argv, ["mlx_lm.generate", *words[4:]]
    try:
        with redirect_stdout(io.StringIO()) as printed:
            importlib.import_module("mlx_lm.generate").main()
    finally:
        sys.argv = before
    return re.search(r"==========\n(.*)\n==========", printed.getvalue(), re.DOTALL)[1]


@pytest.mark.parametrize("family", [None, "gemma4"])
def test_mlx_lm_generate_as_printed_gives_the_same_answers(family, tmp_path, monkeypatch):
    """For a base without a template, and with one whose generation prompt has an empty thought: 20 of 20 rows."""
    base = base_of(tmp_path / "base", family and FAMILIES[family][0])
    result = trained_on(base, tmp_path, monkeypatch, test_rows=20, **(LONGER if family else {"iters": 120}))
    assert not family or result.test.cer_after <= 0.3
    commands = plan_and_progress.next_commands(read_plan(result.run_folder), str(result.run_folder), True)
    [command] = [each for each in commands if "mlx_lm generate" in each]
    lines = (result.run_folder / "test_predictions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    settings = GenerationSettings(adapter_path=str(result.run_folder / "adapters"))
    answers = [answer for _, answer in generate_answers([row["asr_text"] for row in rows], settings)]
    assert [answer.text for answer in answers] == [row["prediction_after"] for row in rows]
    theirs = [mlx_lm_answer(command, row["asr_text"]) for row in rows]
    assert theirs == [answer.text for answer in answers] and len(theirs) == 20
