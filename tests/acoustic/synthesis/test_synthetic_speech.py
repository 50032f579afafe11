import json
import shutil

import pytest
import soundfile
import typer
from synthesis_options import settings_for
from typer.testing import CliRunner

from thunder import digest
from thunder.acoustic.synthesis import synthetic_speech
from thunder.acoustic.synthesis.synthetic_speech import choose_sentences, synthesize_speech
from thunder.cli.commands.speech.asr_synthesize import synthesize as command
from thunder.errors import ConfigError, CorpusError, UsageError
from thunder.text.alphabet import NKO

needs_espeak = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="needs espeak-ng (Debian package espeak-ng)")


def test_sentences_have_both_scripts_a_part_that_stays_and_reasons_for_the_rest(tmp_path):
    sentences, left_out, _ = choose_sentences(settings_for(tmp_path))
    assert sentences[0].latin == "a ni sɔgɔma i ka kɛnɛ wa" and sentences[0].source == "text.txt:1"
    assert all(NKO.encode(one.nko) for one in sentences)
    assert len({one.latin for one in sentences}) == len(sentences) == 7
    # digits and N'Ko; the same sentence with other punctuation
    assert left_out == {"letters or digits that have no sound here": 2, "said already": 1}
    fewer, _, _ = choose_sentences(settings_for(tmp_path, sentences=2, seed=4))
    parts = {one.latin: one.part for one in sentences}
    assert len(fewer) == 2 and all(parts[one.latin] == one.part for one in fewer)
    assert len({one.part for one in sentences}) > 1


def test_what_is_not_named_synthetic_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="nobody takes it for recordings"):
        settings_for(tmp_path, out=str(tmp_path / "bam"))


@needs_espeak
def test_the_folder_has_sound_and_both_texts_and_says_that_it_is_synthetic(tmp_path):
    settings = settings_for(tmp_path, voices=["tn", "tn+f2"], sentences=3)
    record = synthesize_speech(settings)
    folder = tmp_path / "synthetic-bam"
    content = (folder / "metadata.jsonl").read_bytes()
    rows = [json.loads(line) for line in content.decode().splitlines()]
    assert record["sha256"] == digest.sha256_bytes(content) and len(rows) == 3
    for row in rows:
        assert row["synthetic"] is True and "synthetic" in row["id"] and "synthetic" in row["speaker"]
        samples, rate = soundfile.read(folder / row["audio"])
        assert len(samples) / rate == pytest.approx(row["duration"], abs=1e-3) and 0.3 < row["duration"] < 8
        assert abs(samples).max() > 0.1
        assert digest.sha256_file(folder / row["audio"]) == row["sha256"]
    assert {row["speaker"] for row in rows} == {"synthetic tn", "synthetic tn+f2"}
    assert "No person speaks here" in (folder / "README.md").read_text()
    # the same options make the same bytes, in the place of the old ones
    assert synthesize_speech(settings)["sha256"] == record["sha256"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["synthetic-bam", "text.txt"]


@needs_espeak
def test_another_voice_and_a_folder_of_others_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        synthesize_speech(settings_for(tmp_path, voices=["zz"]))
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]
    (tmp_path / "synthetic-bam").mkdir()
    (tmp_path / "synthetic-bam" / "mine.flac").write_bytes(b"")
    with pytest.raises(CorpusError, match="not made by this command"):
        synthesize_speech(settings_for(tmp_path))
    assert (tmp_path / "synthetic-bam" / "mine.flac").exists()


@needs_espeak
def test_the_command_says_what_it_made_and_what_comes_next(tmp_path):
    app = typer.Typer()
    app.command()(command)
    settings = settings_for(tmp_path)
    words = [settings.text[0], "--sentences", "2", "--shortest", "5", "--out", settings.out]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0 and "SYNTHETIC" in told.stdout and "next: thunder asr features" in told.stdout
    assert json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["synthetic"] is True


def test_text_that_cannot_be_spoken_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_speech, "to_phonemes", lambda text: None)
    with pytest.raises(CorpusError, match="can be spoken"):
        choose_sentences(settings_for(tmp_path))
