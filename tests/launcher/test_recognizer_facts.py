"""The facts of a recognizer's plan, read from a feature folder."""

from __future__ import annotations

import toy_speech
from toy_feature_store import RECOGNIZER_OPTIONS, write_feature_store

from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.launcher.recognizer_facts import recognizer_facts


def test_rows_width_and_digest_of_a_feature_folder(tmp_path):
    folder = write_feature_store(tmp_path / "toy")
    settings = AcousticSettings(features=[str(folder)], **RECOGNIZER_OPTIONS)
    facts = recognizer_facts(settings)
    assert facts.data.train.rows == 12  # of 24: speakers s0 and s3
    assert facts.data.files == {"0": str(folder)}
    assert (facts.acoustic["width"], facts.acoustic["mode"]) == (toy_speech.WIDTH, settings.mode_name)
    assert facts.acoustic["recipe"]["kind"] == "logmel"
    again = recognizer_facts(settings)
    assert again.data.sha256 == facts.data.sha256
    other = recognizer_facts(settings.model_copy(update={"test_speakers": ["s3"]}))
    assert other.data.sha256 != facts.data.sha256
