"""`thunder agp` in this process: proposals for rows, and verification."""

from __future__ import annotations

import json

from thunder.cli.main import main

TEXT, BETTER = "ߣߋߤߍߛߍ ߡߌ ߓ", "ߣߋߛߍߛߍ ߡߌ ߓ"
SURE = {"confidence": -0.05, "margin": 0.2}


def agp(*words):
    return main(["agp", *map(str, words)])


def proposed(capsys, tmp_path, rows, proposals, *words):
    out = tmp_path / "out.jsonl"
    assert agp("propose", rows, "--engine", f"file:{proposals}", "--out", out, "--json", *words) == 0
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    return lines, json.loads(capsys.readouterr().out)


def verified(capsys, *words, code=0):
    assert agp("verify", "--json", *words) == code
    return json.loads(capsys.readouterr().out.splitlines()[0])
