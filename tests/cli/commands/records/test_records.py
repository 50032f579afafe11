"""Runs that are really trained here: sealed, compared, tabled, and a changed byte found."""

import json

import pytest

from thunder.cli.main import main


@pytest.mark.slow
def test_two_trained_seeds_become_a_table(tmp_path, monkeypatch, capsys):
    root = tmp_path / "runs"
    monkeypatch.setenv("THUNDER_RUNS", str(root))
    shape = "--iters 4 --steps-per-eval 2 --save-every 2 --steps-per-report 1 --ranks 1 --test-rows 8".split()
    for seed in ("1", "2"):
        assert main(["train", *shape, "--seed", seed]) == 0
    a, b = sorted(path.name for path in root.glob("2*"))
    capsys.readouterr()
    for name in (a, b):
        assert main(["bundle", "verify", name]) == 0 and main(["ckpt", "verify", name]) == 0
        assert main(["bundle", "seal", name]) == 0
    assert main(["drift", a, b]) == 3 and main(["drift", a, b, "--allow", "seed"]) == 0
    spec = tmp_path / "tables.yaml"
    columns = "[cer_asr, cer_before, cer_after, runs]"
    spec.write_text(f"runs:\n  adapter: [{a}, {b}]\ntables:\n  - {{name: t, rows: [adapter], columns: {columns}}}\n")
    assert main(["tables", "build", "-s", str(spec)]) == 0 and main(["tables", "check", "-s", str(spec)]) == 0
    cells = json.loads((tmp_path / "tables.lock.json").read_text())["cells"]
    rates = [json.loads((root / name / "results.json").read_text())["test"]["cer_after"] for name in (a, b)]
    assert cells["t/adapter/cer_after"]["text"].startswith(f"{50 * sum(rates):.2f} ± ")
    assert main(["resume", a]) == 2, "a sealed run does not go on"
    weights = root / b / "adapters" / "adapters.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.unlink()
    weights.write_bytes(bytes(data))
    capsys.readouterr()
    assert main(["ckpt", "verify", str(weights)]) == 4
    assert "lora_" in capsys.readouterr().err, "the tensor is named"
    assert main(["bundle", "verify", b]) == 4 and main(["tables", "check", "-s", str(spec)]) == 3
    capsys.readouterr()
    assert main(["runs", "filter", "seed=1", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert run["name"] == a and run["sealed"]
