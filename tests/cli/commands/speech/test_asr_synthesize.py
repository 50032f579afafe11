import json

import numpy as np
import pytest
import soundfile

from thunder.acoustic.synthesis import espeak
from thunder.cli import main as cli

LINES = ["A ni sɔgɔma, i ka kɛnɛ wa?", "N bɛ taa so sini.", "A ye ji min.", "Den fila bɛ so kɔnɔ."]


@pytest.fixture
def silent_espeak(monkeypatch):
    """espeak-ng replaced with a function that writes 0.1 s of silence."""
    monkeypatch.setattr(espeak, "espeak_version", lambda: "eSpeak NG test")
    monkeypatch.setattr(
        espeak, "speak_phonemes", lambda phonemes, voice, speed, out: soundfile.write(out, np.zeros(1600), 16000)
    )


def records(tmp_path, capsys, name: str) -> tuple[dict, list[str]]:
    """The record that the command prints, and its rows of metadata."""
    text, out = tmp_path / "text.txt", tmp_path / f"synthetic-{name}"
    text.write_text("\n".join(LINES), encoding="utf-8")
    assert cli.main(["asr", name, str(text), "--out", str(out), "--shortest", "5", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record.pop("out") == str(out) and record["settings"].pop("out") == str(out)
    return record, (out / "metadata.jsonl").read_text(encoding="utf-8").splitlines()


def test_the_old_name_of_the_command_does_the_same(silent_espeak, tmp_path, capsys):
    record, rows = records(tmp_path, capsys, "synthesize")
    assert len(rows) == len(LINES) and record["synthetic"] is True
    assert records(tmp_path, capsys, "synthesise") == (record, rows)


def test_help_lists_only_the_new_name(capsys):
    assert cli.main(["asr", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "synthesize" in shown and "synthesise" not in shown
