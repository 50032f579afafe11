"""`thunder fuse` on the command line."""

from __future__ import annotations

from pathlib import Path

from thunder.cli.commands.evaluation import fuse
from thunder.cli.main import main
from thunder.evaluation import fusion
from thunder.evaluation.fusion import FusionResult, ModelMeasurement


def test_the_measured_loss_is_printed(monkeypatch, capsys):
    measured = [ModelMeasurement(2.0, 0.5), ModelMeasurement(1.0, None), ModelMeasurement(1.02, 0.25)]
    given = []

    def fused(settings, say):
        given.append(settings)
        return FusionResult(Path("out"), 7, *measured)

    monkeypatch.setattr(fusion, "fuse_and_measure", fused)
    assert main(["fuse", "--adapter-path", "a", "--de-quantize"]) == 0
    out = capsys.readouterr().out
    assert "2.0% of the gain is lost" in out and "CER 0.5000" in out and out.count("CER") == 2
    assert given[0].dequantize and fuse.app
    assert main(["fuse", "--adapter-path", "a", "--json"]) == 0
    assert '"lost_share"' in capsys.readouterr().out


def test_a_folder_that_is_no_adapter(capsys, tmp_path):
    assert main(["fuse", "--adapter-path", str(tmp_path), "--save-path", str(tmp_path / "x")]) != 0
    assert "not an adapter folder" in capsys.readouterr().err
