"""Recordings to text: the same as the test of the same features, and what cannot be heard is named."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile
import toy_speech

from thunder.acoustic import data, frontend, tables, transcribe, weights
from thunder.acoustic.feature_settings import FeatureSettings
from thunder.acoustic.index import Utterance
from thunder.acoustic.recognise import Recogniser
from thunder.acoustic.store_writer import StoreWriter
from thunder.acoustic.task import AcousticTask
from thunder.errors import ArtifactError, CorpusError, ModelError


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> tuple[Path, list[Path], dict[str, str]]:
    """(checkpoint, recordings, what the head hears of their stored features by file name)."""
    folder, draw = tmp_path_factory.mktemp("told"), np.random.default_rng(0)
    source = frontend.of_settings(FeatureSettings(features="logmel", subsample=2, out=""))
    files = []
    with StoreWriter(folder / "features", source.recipe, source.width) as writer:
        for number in range(9):
            seconds = 0.3 + 0.1 * number
            pitch = 200 * 2 ** draw.uniform(0, 3, int(seconds * 8)).repeat(2000)
            sound = (0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / 16000)).astype(np.float32)
            files.append(folder / f"{number}.flac")
            soundfile.write(files[-1], sound, 16000)
            sound, _ = soundfile.read(files[-1], dtype="float32")
            features = frontend.features_of(source, sound)
            said = Utterance(files[-1].name, len(features), len(sound) / 16000, "one", f"s{number % 3}")
            writer.add(said, features)
        writer.finish()
    settings = toy_speech.settings(features=[str(folder / "features")], mode="trajectory+ttt")
    features = data.open_features(settings.features)
    prepared = data.prepare(settings, features)
    task = AcousticTask(settings, prepared, tables.fit(settings, features, prepared.train))
    task.model.leave.bias = mx.random.normal(task.model.leave.bias.shape, key=mx.random.key(4))
    task.save(folder)
    recogniser = Recogniser.of(weights.load(folder / weights.NAME))
    heard = recogniser.rows(features, data.examples(settings, features), 4)
    return folder / weights.NAME, files, {one.id: row["asr_text"] for one, row in heard}


def listen(checkpoint: Path, files, batch_size=4):
    loaded = weights.load(checkpoint)
    source = transcribe.frontend_of(loaded, None, str(checkpoint))
    return list(transcribe.transcripts(loaded, Recogniser.of(loaded), source, files, batch_size))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_recording_says_what_its_stored_features_say(told, batch_size):
    checkpoint, files, wanted = told
    rows = listen(checkpoint, files, batch_size)
    assert [row["audio"] for row in rows] == [str(path) for path in files]
    assert {Path(row["audio"]).name: row["text"] for row in rows} == wanted
    assert len({row["text"] for row in rows} - {""}) > 1
    assert all(len(row["trajectory_scalars"]) == 7 and row["ttt_drift"] >= 0 for row in rows)


def test_every_recording_that_cannot_be_used_is_named(told, tmp_path):
    checkpoint, files, _ = told
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "empty.flac").write_bytes(b"")
    with pytest.raises(CorpusError) as caught:
        listen(checkpoint, [files[0], tmp_path / "text.wav", tmp_path / "absent.wav", tmp_path / "empty.flac"])
    said = caught.value.message
    assert "3 of 4" in said and "text.wav" in said and "absent.wav" in said and "empty.flac" in said


def test_features_of_another_kind_are_not_made_up(told):
    loaded = weights.load(told[0])
    recipe = loaded.origin.recipe
    for changes, kind, said in (
        ({"kind": "whisper", "model": "m" * 64}, ModelError, "no --model was given"),
        ({"n_mels": 40}, ArtifactError, "of another recipe"),
    ):
        origin = weights.Origin(
            loaded.origin.settings, loaded.origin.width, recipe | changes, loaded.origin.recipe_digest
        )
        with pytest.raises(kind, match=said):
            transcribe.frontend_of(weights.Loaded(loaded.model, loaded.tables, origin), None, "x")
