"""Transcription of recordings: a row for each in their order, features as a store rounds them, faults reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from untrained_head import WORDS, write_head, write_sounds

from thunder.acoustic.acoustic_settings import TranscribeSettings
from thunder.acoustic.dataset import utterances
from thunder.acoustic.features.recordings import RecordingReader
from thunder.acoustic.head import head_file
from thunder.acoustic.inference import transcriber
from thunder.acoustic.inference.recognizer import Recognizer
from thunder.errors import ArtifactError, ModelError


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    return write_sounds(tmp_path_factory.mktemp("sounds"), WORDS)


@pytest.fixture(scope="module")
def head(sounds, tmp_path_factory):
    """(path of a head, folder of the features that it was made for)."""
    return write_head(tmp_path_factory.mktemp("head"), sounds, "latin")


def transcribed(path: Path, recordings, batch_size: int) -> tuple[list[dict], list[str]]:
    """(rows, messages of faults)."""
    loaded = head_file.load_head(path)
    settings = TranscribeSettings(batch_size=batch_size)
    faults: list[str] = []
    rows = transcriber.transcribe_recordings(
        settings, Recognizer.from_head(loaded), transcriber.build_front_end(settings, loaded.origin), recordings,
        "run-1", faults.append,
    )  # fmt: skip
    return list(rows), faults


def test_texts_are_those_that_the_features_of_the_store_give(head, sounds):
    path, features = head
    rows, faults = transcribed(path, RecordingReader().read([sounds]), 2)
    loaded = head_file.load_head(path)
    prepared = utterances.prepare_dataset(loaded.origin.settings, utterances.open_features([str(features)]))
    examples = [*prepared.train, *prepared.valid, *prepared.test]
    expected = {
        example.id: row["asr_text"]
        for example, row in Recognizer.from_head(loaded).recognize(prepared.features, examples, 1)
    }
    assert faults == [] and {row["run_id"] for row in rows} == {"run-1"}
    assert {row["feat_id"]: row["asr_text"] for row in rows} == expected and len(expected) == len(WORDS)
    np.testing.assert_allclose([row["seconds"] for row in rows], np.arange(9000, 24000, 3000) / 16000, atol=1e-6)


def test_a_recording_that_cannot_be_read_is_reported_and_the_rows_keep_their_order(head, tmp_path):
    path, _ = head
    folder = write_sounds(tmp_path, WORDS)
    (folder / "b.flac").write_bytes(b"no audio")
    rows, faults = transcribed(path, RecordingReader().read([folder]), 2)
    assert [Path(row["audio"]).stem for row in rows] == ["a", "c", "d", "e"]
    assert len(faults) == 1 and "b.flac" in faults[0]


def test_a_head_over_whisper_needs_the_folder_of_its_model(head):
    origin = head_file.load_head(head[0]).origin
    origin.recipe.update({"kind": "whisper", "model": "a" * 64, "n_mels": 80})
    with pytest.raises(ModelError, match="trained on features of a Whisper model"):
        transcriber.build_front_end(TranscribeSettings(), origin)


def test_features_at_another_rate_are_refused_with_the_difference(head):
    origin = head_file.load_head(head[0]).origin
    origin.recipe["rate"] = 8000
    message = "differs from the recipe that the head was trained on: rate 16000, not 8000"
    with pytest.raises(ArtifactError, match=message):
        transcriber.build_front_end(TranscribeSettings(), origin)
