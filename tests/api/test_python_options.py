"""Arguments of the Python API: paths as objects, one input for a list of one, callbacks that can receive events."""

from __future__ import annotations

from pathlib import Path

import pytest

from thunder import Callback, build_corpus, pretrain, recognize, resume, train, train_recognizer, transcribe
from thunder.api.python_options import check_callbacks, given_options, input_paths
from thunder.errors import CorpusError, UsageError


def test_paths_become_text_also_in_lists_and_none_is_left_out():
    options = {"out": Path("a/b"), "text": (Path("c"), "d"), "iters": 3, "seed": None}
    assert given_options(options) == {"out": "a/b", "text": ["c", "d"], "iters": 3}


@pytest.mark.parametrize("inputs", ["rows.jsonl", Path("rows.jsonl"), ["rows.jsonl"], (Path("rows.jsonl"),)])
def test_one_input_is_a_list_of_one(inputs):
    assert input_paths(inputs) == ["rows.jsonl"]


@pytest.mark.parametrize("kind", [str, Path])
def test_one_file_that_is_missing_is_named_whole(tmp_path, kind):
    with pytest.raises(CorpusError, match=r"missing\.jsonl: No such file"):
        build_corpus(kind(tmp_path / "missing.jsonl"), out=tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize("function", [recognize, transcribe])
def test_one_recording_is_one_input(monkeypatch, function):
    given = []

    def stop(settings, *rest):
        given.append(settings.inputs)
        raise UsageError("stopped by the test", fix="none")

    monkeypatch.setattr(f"thunder.api.{'recognition' if function is recognize else 'transcription'}.runs", stop)
    monkeypatch.setattr("thunder.api.recognition.recognize_recordings", stop)
    monkeypatch.setattr("thunder.api.bridge_session.Bridge.from_settings", stop)
    with pytest.raises(UsageError, match="stopped by the test"):
        function("u00.flac", run="x")
    assert given == [["u00.flac"]]


class PrintLoss(Callback):
    def on_step(self, event):
        print(event.loss)


class OnlySteps:
    def on_step(self, event):
        print(event.loss)


def test_a_callback_passes():
    check_callbacks([PrintLoss(), PrintLoss()])
    check_callbacks(())


@pytest.mark.parametrize("function", [train, pretrain, train_recognizer, resume])
@pytest.mark.parametrize("callbacks", [PrintLoss(), print, [PrintLoss], [OnlySteps()], [PrintLoss(), None]])
def test_what_cannot_receive_events_is_refused_before_a_run_is_made(tmp_path, monkeypatch, function, callbacks):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    with pytest.raises(UsageError, match="callbacks: ") as caught:
        function(callbacks=callbacks)
    assert "PrintLoss()" in caught.value.fix and not (tmp_path / "runs").exists()
