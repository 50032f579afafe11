"""The facts of a plan: model and rows as they lie on disk."""

from __future__ import annotations

import hashlib
import json

import pytest
from conftest import REPOSITORY

from thunder.errors import UsageError
from thunder.launcher import plan_facts
from thunder.lora.lora_settings import EMBEDDED_MODEL, LoraSettings, PretrainSettings

SAMPLE = REPOSITORY / "data" / "sample"


def test_facts_of_the_shipped_model_and_sample():
    settings = LoraSettings(data=str(SAMPLE), iters=10)
    facts = plan_facts.train_facts(settings, 1)
    config = json.loads((EMBEDDED_MODEL / "config.json").read_text())
    config = config.get("text_config", config)
    assert (facts.model.path, facts.model.layers) == (str(EMBEDDED_MODEL), config["num_hidden_layers"])
    assert facts.model.source == "shipped here: no model was named"
    assert facts.data.sha256["train"] == hashlib.sha256((SAMPLE / "train.jsonl").read_bytes()).hexdigest()
    digests = plan_facts.train_digests(settings)
    assert digests["model"] == {"path": facts.model.path, "sha256": facts.model.sha256}
    assert digests["data"]["sha256"] == facts.data.sha256


def test_more_layers_than_the_model_has_are_refused():
    with pytest.raises(UsageError, match="--num-layers 999: the model has"):
        plan_facts.train_facts(LoraSettings(data=str(SAMPLE), iters=10, num_layers=999), 1)


def test_lines_of_open_text_are_counted_and_have_a_digest(tmp_path):
    lines = [f"ߞߊ {number}" for number in range(50)]
    path = tmp_path / "open.tsv"
    path.write_text("nqo\n" + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    settings = PretrainSettings(text_root=str(tmp_path), text=["open.tsv"], heldout=0.2)
    data = plan_facts.pretrain_facts(settings).data
    assert data.files == {"open.tsv": str(path)}
    assert data.lines["train"] + data.lines["heldout"] == len(set(lines)) and data.lines["excluded"] == 0
    path.write_text(path.read_text(encoding="utf-8").replace("ߞߊ 7", "ߟߊ 7"), encoding="utf-8")
    assert plan_facts.pretrain_facts(settings).data.sha256 != data.sha256
