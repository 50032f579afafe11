"""`thunder doctor`: each check on its good and its bad side, and the exit code that follows."""

from __future__ import annotations

import json

from thunder.cli import main as cli
from thunder.cli.commands.cluster import doctor


def test_this_machine_is_in_order(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    found = {each["check"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["tiny model"]["state"] == found["packages"]["state"] == "ok"
    assert cli.main(["doctor"]) == 0
    assert "data/models/tiny-gemma4-nko" in capsys.readouterr().out


def test_a_missing_package_is_a_failure_with_its_fix(monkeypatch, capsys):
    monkeypatch.setattr(doctor.environment, "package_versions", lambda: {"python": "3.11", "mlx": "(not installed)"})
    assert cli.main(["doctor"]) == 6
    said = capsys.readouterr().out
    assert "failure  packages" in said and "not installed: mlx" in said
    assert "to fix: ./launch.sh setup" in said


def test_a_missing_model_is_a_failure(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(doctor, "EMBEDDED_MODEL", tmp_path)
    assert cli.main(["doctor"]) == 6
    assert "git checkout -- data" in capsys.readouterr().out


def test_no_openblas_on_linux_is_a_warning_only(monkeypatch, capsys):
    monkeypatch.setattr(doctor.platform, "system", lambda: "Linux")
    monkeypatch.setattr(doctor.openblas, "find_openblas", lambda system: None)
    assert cli.main(["doctor", "--json"]) == 0
    found = {each["check"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["BLAS"]["state"] == "warning" and "libopenblas" in found["BLAS"]["fix"]
