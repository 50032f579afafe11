"""A fused model answers as its adapter does, and one that lost the adapter's gain is refused."""

from __future__ import annotations

import json
import shutil

import mlx.core as mx
import mlx.nn as nn
import pytest
from conftest import make_rows, write_rows
from mlx.utils import tree_flatten

import thunder
from thunder.errors import ModelError, UsageError
from thunder.evaluation import fusion
from thunder.evaluation.fusion import FusionResult, ModelMeasurement, fuse_and_measure
from thunder.evaluation.fusion_settings import FusionSettings
from thunder.lora import base_model

pytestmark = pytest.mark.expensive


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    """A short run on a base of 4 bits: its folder, and the base."""
    root = tmp_path_factory.mktemp("fusion")
    base = shutil.copytree(tiny_model, root / "base4")
    model = base_model.load_base_model(base)
    nn.quantize(
        model, group_size=32, bits=4,
        class_predicate=lambda _, layer: hasattr(layer, "to_quantized") and layer.weight.shape[-1] % 32 == 0,
    )  # fmt: skip
    mx.save_safetensors(str(base / "model.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"})
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"quantization": {"group_size": 32, "bits": 4}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THUNDER_RUNS", str(root / "runs"))
        result = thunder.train(
            model=str(base), train_data=str(write_rows(root / "rows.jsonl", make_rows(24, longest=4))), ranks=1,
            in_process=True, iters=30, holdout=0.2, lora_scale=2.0, learning_rate=3e-3, num_layers=-1, test_rows=4,
        )  # fmt: skip
    return result.run_folder


def settings_for(run, tmp_path, **options):
    return FusionSettings(adapter_path=str(run / "adapters"), save_path=str(tmp_path / "fused"), limit=6, **options)


def test_a_dequantized_model_keeps_the_gain(run, tmp_path):
    told = []
    result = fuse_and_measure(settings_for(run, tmp_path), told.append)
    assert result.gain > 0 and abs(result.lost_share) < 0.05
    assert result.fused.nats == pytest.approx(result.adapter.nats, abs=1e-3) and result.fused.cer == result.adapter.cer
    assert "quantization" not in json.loads((tmp_path / "fused" / "config.json").read_text())
    assert (tmp_path / "fused" / "chat_template.jinja").is_file()
    assert json.loads((tmp_path / "fused" / "fusion.json").read_text())["gain"] == result.gain
    asked = ["ߊ߬ ߞߊ ߓߊ", "ߓߊ"]
    alone = thunder.generate(asked, model=str(tmp_path / "fused"))
    assert alone == thunder.generate(asked, adapter_path=str(run / "adapters"))


def test_one_that_is_rounded_away_is_refused_with_the_flag_that_goes_on(run, tmp_path):
    with pytest.raises(
        ModelError, match=r"loses more than 5% of the adapter's gain on \d rows: .*fused: \d+% of what"
    ) as refused:
        fuse_and_measure(settings_for(run, tmp_path, dequantize=False))
    assert "leave out --no-dequantize" in refused.value.fix
    assert [path.name for path in tmp_path.iterdir()] == []
    result = fuse_and_measure(settings_for(run, tmp_path, dequantize=False, accept_loss=True))
    assert result.lost_share > 0.05
    assert json.loads((tmp_path / "fused" / "config.json").read_text())["quantization"]["bits"] == 4


def test_a_folder_that_exists_is_left_alone(run, tmp_path):
    (tmp_path / "fused").mkdir()
    with pytest.raises(UsageError, match="it exists"):
        fuse_and_measure(settings_for(run, tmp_path))


def test_an_adapter_outside_a_run_needs_rows(run, tmp_path):
    adapter = shutil.copytree(run / "adapters", tmp_path / "elsewhere" / "deep" / "adapter")
    with pytest.raises(UsageError, match="no run with test rows around it"):
        fuse_and_measure(FusionSettings(adapter_path=str(adapter), save_path=str(tmp_path / "fused")))


def test_no_share_is_lost_of_no_gain(tmp_path):
    same = ModelMeasurement(1.0, 0.5)
    assert FusionResult(tmp_path, 1, same, same, same).lost_share is None


@pytest.mark.parametrize(
    ("base", "adapter", "fused", "refused"),
    [((2.0, 0.5), (1.0, 0.1), (1.0, 0.9), True), ((1.0, 0.5), (1.0, 0.5), (9.0, 0.5), True),
     ((2.0, 0.5), (1.0, 0.1), (float("nan"), 0.1), True), ((2.0, 0.5), (1.0, 0.1), (1.04, 0.11), False)],
)  # fmt: skip
def test_what_is_refused(tmp_path, base, adapter, fused, refused):
    result = FusionResult(tmp_path, 10, *(ModelMeasurement(*each) for each in (base, adapter, fused)))
    settings = FusionSettings(adapter_path="a")
    if refused:
        with pytest.raises(ModelError, match="loses more than 5%"):
            fusion._check(result, settings)
    else:
        fusion._check(result, settings)


def test_rows_without_references_cannot_measure(run, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"asr_text": "a", "reference_text": ""}\n')
    with pytest.raises(UsageError, match="no row has a reference"):
        fuse_and_measure(settings_for(run, tmp_path, rows=str(path)))
