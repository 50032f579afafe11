"""From recordings to a store: the frames that belong to each, what cannot be used, and what is done twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import whisper_oracle as oracle

from thunder import digest
from thunder.acoustic.features import extract
from thunder.acoustic.features.audio import load_audio
from thunder.acoustic.features.feature_settings import FeatureSettings
from thunder.acoustic.features.log_mel import log_mel
from thunder.acoustic.features.store import FeatureStore
from thunder.errors import CorpusError, ModelError, UsageError


def sound(seconds, seed=0, rate=16000):
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


def folder_of(folder, **sounds):
    """Recordings with a row each; a sound is samples, or samples and rate."""
    folder.mkdir(exist_ok=True)
    rows = []
    for name, samples in sounds.items():
        samples, rate = samples if isinstance(samples, tuple) else (samples, 16000)
        soundfile.write(folder / f"{name}.flac", samples, rate)
        rows.append({"id": name, "audio": f"{name}.flac", "text": f"said {name}", "speaker": "awa", "lang": "bm"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(folder, out, **more):
    chosen = FeatureSettings(**{"inputs": [str(folder)], "features": "logmel", "out": str(out)} | more)
    return extract.extract_features(chosen, extract.plan_extraction(chosen))


def test_logmel_of_each_recording(tmp_path):
    source = folder_of(tmp_path / "in", a=sound(0.5), b=sound(1.234, 1), c=(sound(1, 2, 44100), 44100))
    outcome = run(source, tmp_path / "out")
    store = FeatureStore.open(tmp_path / "out", verify=True)
    assert [one.id for one in store.utterances] == ["a", "b", "c"] and outcome.resumed == 0
    assert outcome.notes == {"was resampled from 44100 Hz": 1}
    for position, one in enumerate(store.utterances):
        wanted = log_mel(load_audio(source / f"{one.id}.flac").samples, 80)
        assert np.abs(store.features(position) - wanted).max() < 1e-3
        assert one.frames == len(wanted) == np.ceil(one.seconds * 100)
        assert (one.text, one.speaker, one.extra) == (f"said {one.id}", "awa", {"lang": "bm"})
        assert one.audio_sha256 == digest.sha256_file(source / f"{one.id}.flac")


@pytest.mark.expensive
def test_whisper_keeps_the_frames_that_hold_audio(tmp_path):
    import mlx.core as mx

    from thunder.acoustic.features import whisper_weights

    model = oracle.save_model(tmp_path / "model", oracle.weights())
    source = folder_of(tmp_path / "in", b=sound(1.234, 1))
    run(source, tmp_path / "out", features="whisper", model=str(model), subsample_how="mean")
    store = FeatureStore.open(tmp_path / "out", verify=True)
    encoder, digests = whisper_weights.load_encoder(model)
    assert (store.recipe.model, store.recipe.frames_per_second, store.width) == (
        digests.computed,
        12.5,
        24,
    )
    whole = np.array(encoder(mx.array(log_mel(load_audio(source / "b.flac").samples, 80, 3000))[None])[0])
    frames = whole[:62]  # of 20 ms, the last one in part
    wanted = [frames[start : start + 4].mean(0) for start in range(0, 62, 4)]
    assert np.abs(store.features(0) - wanted).max() < 2e-3


def test_features_of_an_earlier_version_are_resumed_with_their_model(tmp_path):
    from thunder.acoustic.features import whisper_weights

    model = oracle.save_model(tmp_path / "model", oracle.weights())
    source, out = folder_of(tmp_path / "in", b=sound(0.5, 1)), tmp_path / "out"
    run(source, out, features="whisper", model=str(model))
    digests = whisper_weights.load_encoder(model)[1]
    plan = (out / "plan.json").read_text()
    assert digests.computed in plan and digests.stored != digests.computed
    for path in out.iterdir():
        path.unlink()
    (out / "plan.json").write_text(plan.replace(digests.computed, digests.stored))
    run(source, out, features="whisper", model=str(model))
    assert FeatureStore.open(out).recipe.model == digests.stored
    (out / "plan.json").write_text(json.dumps(json.loads(plan) | {"recipe": {"model": "0" * 64}}))
    with pytest.raises(UsageError, match="made with other options: .*model 000000000000"):
        run(source, out, features="whisper", model=str(model))


def test_more_than_30_s_is_refused_or_heard_in_windows(tmp_path):
    source = folder_of(tmp_path / "in", long=sound(31.5), short=sound(0.3))
    with pytest.raises(CorpusError, match=r"long.flac: is 31.5 s long; Whisper takes 30 s \(--long-audio windows"):
        run(source, tmp_path / "out")
    outcome = run(source, tmp_path / "windows", long_audio="windows", n_mels=16)
    assert outcome.notes == {"is longer than 30 s, split into windows": 1}
    samples = load_audio(source / "long.flac").samples
    wanted = np.concatenate([log_mel(samples[:480000], 16), log_mel(samples[480000:], 16)])
    found = FeatureStore.open(tmp_path / "windows").features(0)
    assert found.shape == (3150, 16) and np.abs(found - wanted).max() < 1e-3


@pytest.mark.parametrize("rate", [16000, 44100, 8000])
def test_exactly_30_s_is_one_window(tmp_path, rate):
    source = folder_of(tmp_path / "in", a=(sound(30, 0, rate), rate))
    run(source, tmp_path / "out", n_mels=8)
    assert FeatureStore.open(tmp_path / "out").utterances[0].frames == 3000


def broken(folder):
    """Three recordings of five that cannot be used."""
    source = folder_of(folder, a=sound(0.3), b=sound(0.3, 1), c=sound(0.3, 2), d=sound(0.3, 3), e=sound(0.3, 4))
    (source / "b.flac").write_bytes((source / "b.flac").read_bytes()[:1500])
    (source / "d.flac").write_bytes(b"")
    rows = [json.loads(line) for line in (source / "metadata.jsonl").read_text().splitlines()]
    rows[4]["sha256"] = "0" * 64
    (source / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return source


def test_all_recordings_that_cannot_be_used_are_named_and_the_rest_is_kept(tmp_path):
    source, out = broken(tmp_path / "in"), tmp_path / "out"
    with pytest.raises(CorpusError) as error:
        run(source, out)
    for said in (
        "3 of 5 recordings",
        "b.flac: is not audio that can be read, or is truncated",
        "d.flac: is empty",
        "e.flac: sha256 is",
    ):
        assert said in error.value.message
    assert not (out / "index.json").exists() and "--keep-going" in error.value.fix
    outcome = run(source, out, keep_going=True)
    assert [name for name, _ in outcome.left_out] == ["b", "d", "e"] and outcome.resumed == 5
    assert outcome.index["left_out"] == 3
    store = FeatureStore.open(out, verify=True)
    assert [one.id for one in store.utterances] == ["a", "c"]
    # mended, they are taken in; what still is wrong is named alone
    for name in "bd":
        soundfile.write(source / f"{name}.flac", sound(0.3, "abcde".index(name)), 16000)
    with pytest.raises(CorpusError, match="1 of 5"):
        run(source, out)
    run(source, out, keep_going=True)
    assert [one.id for one in FeatureStore.open(out, verify=True).utterances] == ["a", "b", "c", "d"]


def test_faulty_rows_stop_it_before_anything_is_made(tmp_path):
    source = folder_of(tmp_path / "in", a=sound(0.3))
    with (source / "metadata.jsonl").open("a") as stream:
        stream.write('{"audio": "none.flac"}\n{"text": "?"}\n')
    with pytest.raises(CorpusError, match="jsonl:2: there is no file .*\n.*jsonl:3: names no recording"):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    chosen = FeatureSettings(inputs=[str(source)], features="logmel", out=str(tmp_path / "out"), keep_going=True)
    assert extract.plan_extraction(chosen).faults.count == 2


def test_nothing_usable_is_an_error_even_if_left_out(tmp_path):
    source = folder_of(tmp_path / "in", a=sound(0.3))
    (source / "a.flac").write_bytes(b"")
    with pytest.raises(CorpusError, match="none of 1 recordings can be used: .*a.flac: is empty"):
        run(source, tmp_path / "out", keep_going=True)


@pytest.mark.parametrize(
    "change", [{"subsample": 2}, {"n_mels": 40}, {"dtype": "int8"}, {"shard_bytes": 5}, {"part": "1/1"}]
)
def test_a_folder_of_other_features_is_refused(tmp_path, change):
    source = folder_of(tmp_path / "in", a=sound(0.3))
    run(source, tmp_path / "out")
    if change == {"part": "1/1"}:
        change, source = {}, folder_of(tmp_path / "in", a=sound(0.3), b=sound(0.3))
    with pytest.raises(UsageError, match="holds features made with other options"):
        run(source, tmp_path / "out", **change)


def test_parts_hold_every_recording_once(tmp_path):
    source = folder_of(tmp_path / "in", **{name: sound(0.2, seed) for seed, name in enumerate("abcde")})
    for number in (1, 2):
        run(source, tmp_path / "out", part=f"{number}/2")
    extract.store_parts.merge_parts(tmp_path / "out")
    run(source, tmp_path / "whole")
    merged, whole = (FeatureStore.open(tmp_path / name, verify=True) for name in ("out", "whole"))
    assert [one.id for one in merged.utterances] == ["a", "c", "e", "b", "d"]
    for position, one in enumerate(merged.utterances):
        assert np.array_equal(merged.features(position), whole.features("abcde".index(one.id)))
    with pytest.raises(CorpusError, match="part 6/6 of 5 recordings is empty"):
        run(source, tmp_path / "out", part="6/6")


def test_whisper_is_never_replaced_in_silence(tmp_path):
    source = folder_of(tmp_path / "in", a=sound(0.3))
    for model in (None, str(tmp_path / "nowhere"), "openai/whisper-tiny"):
        with pytest.raises(ModelError) as error:
            run(source, tmp_path / "out", features="whisper", model=model)
        assert "--features logmel" in error.value.fix
        assert not (tmp_path / "out").exists()


def test_the_oracle_s_outputs_are_there():
    assert Path(oracle.STORED).stat().st_size < 10_000
