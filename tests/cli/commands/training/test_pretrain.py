"""`thunder pretrain --dry-run`: the plan over open text; without text it is refused."""

from __future__ import annotations

import json

import pytest

from thunder.cli.main import main


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_a_plan_is_of_pretraining_over_the_text(tmp_path, capsys):
    words = "ߒߞߏ ߞߊ߲ ߛߓߍ ߡߐ߰ ߓߍ߯".split()
    lines = [" ".join(words[(number + step) % 5] for step in range(4)) for number in range(200)]
    text = "nqo\n" + "".join(f"{line} {number}\n" for number, line in enumerate(lines))
    (tmp_path / "t.tsv").write_text(text, encoding="utf-8")
    flags = ["--text-root", str(tmp_path), "--text", "t.tsv", "--iters", "5", "--ranks", "1"]
    assert main(["pretrain", *flags, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["job"], plan["length"]["iterations"], plan["settings"]["text"]) == ("pretrain", 5, ["t.tsv"])
    assert "lora_rank" not in plan["settings"]


def test_without_text_it_is_refused(capsys):
    assert main(["pretrain", "--dry-run"]) == 2
    assert "'text'" in capsys.readouterr().err
