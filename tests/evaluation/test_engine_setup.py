"""The engines that settings name: without a model, with one, and with an adapter beside its base."""

from __future__ import annotations

import pytest
from conftest import write_rows

from thunder.errors import ModelError
from thunder.evaluation import cases
from thunder.evaluation.engine_setup import load_engines, load_model_engines
from thunder.evaluation.engines import FileEngine, IdentityEngine, OracleEngine
from thunder.evaluation.evaluation_settings import EvalSettings
from thunder.lora import adapter_files, adapters, base_model
from thunder.lora.lora_settings import EMBEDDED_MODEL, LoraSettings


def saved_adapter(folder, base_sha256):
    settings = LoraSettings(num_layers=2, lora_rank=2)
    model = base_model.load_base_model(EMBEDDED_MODEL)
    layers = adapters.add_lora(model, settings)
    described = {"model": EMBEDDED_MODEL.name, "base_sha256": base_sha256}
    adapters.save_adapter(folder, model, settings, layers, described)
    return folder


def test_engines_without_a_model_by_name(tmp_path):
    rows = write_rows(tmp_path / "r.jsonl", [{"id": "a", "before": "ߊ", "after": "ߋ"}])
    proposals = write_rows(tmp_path / "p.jsonl", [{"id": "a", "proposal": "ߌ"}])
    read = cases.read_cases(rows)
    kinds = {"identity": IdentityEngine, "oracle": OracleEngine, f"file:{proposals}": FileEngine}
    texts = {}
    for name, kind in kinds.items():
        engine, base = load_engines(EvalSettings(rows=str(rows), engine=name), read)
        assert type(engine) is kind and base is None
        texts[kind] = [proposal.text for proposal in engine.propose(read.cases)]
    assert texts == {IdentityEngine: ["ߊ"], OracleEngine: ["ߋ"], FileEngine: ["ߌ"]}


def test_a_model_alone_has_no_base_beside_it():
    engine, base = load_model_engines(str(EMBEDDED_MODEL), None, batch_size=2)
    assert base is None
    assert engine.describe()["base_sha256"] == base_model.base_digest(EMBEDDED_MODEL)
    assert engine.describe()["adapter_sha256"] is None


def test_an_adapter_shares_its_weights_with_the_base_beside_it(tmp_path):
    folder = saved_adapter(tmp_path / "adapter", base_model.base_digest(EMBEDDED_MODEL))
    engine, base = load_model_engines(str(EMBEDDED_MODEL), str(folder), batch_size=2)
    assert engine.model is base.model and (engine.base_only, base.base_only) == (False, True)
    expected = adapter_files.adapter_sha256(adapter_files.find_adapter(str(folder)))
    assert engine.describe()["adapter_sha256"] == expected


def test_an_adapter_of_another_base_is_refused(tmp_path):
    folder = saved_adapter(tmp_path / "adapter", "0" * 64)
    with pytest.raises(ModelError):
        load_model_engines(str(EMBEDDED_MODEL), str(folder), batch_size=2)
