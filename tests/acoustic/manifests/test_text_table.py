"""Texts by id in both scripts: joined to recordings and to stored features, with what matches on one side only."""

from __future__ import annotations

import json

import manifest_folders as folders
import pytest
from toy_feature_store import RECOGNIZER_OPTIONS, write_feature_store

from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.dataset import utterances
from thunder.acoustic.features.store import FeatureStore
from thunder.acoustic.manifests.text_table import IdTexts, read_text_table
from thunder.cli import main as cli
from thunder.errors import CorpusError

ROWS = [
    {"feat_id": "one", "nko": "ߞߋߟߋ߲", "latin": "kelen"},
    {"feat_id": "two", "latin": "fila"},
    {"feat_id": 3, "text": "saba"},
    {"feat_id": "elsewhere", "nko": "ߣߊߣߌ", "latin": "nani"},
]


def table_of(tmp_path, rows=ROWS, name="texts.jsonl"):
    return folders.write_json_lines(tmp_path / name, rows)


def test_texts_of_the_ids_that_are_asked_for(tmp_path):
    table = read_text_table(table_of(tmp_path), ["one", "two", "3", "four"])
    assert table.texts == {
        "one": IdTexts("ߞߋߟߋ߲", "kelen", None), "two": IdTexts(None, "fila", None), "3": IdTexts(None, None, "saba")
    }  # fmt: skip
    assert table.summary() == {
        "rows": 4, "joined": 3, "texts_without_recording": 1, "texts_without_recording_ids": ["elsewhere"],
        "recordings_without_text": 1, "recordings_without_text_ids": ["four"],
    }  # fmt: skip
    assert table.messages()[1:] == [
        "1 texts without a recording: elsewhere", "1 recordings without a text in it: four"
    ]  # fmt: skip


def test_a_table_as_tsv_is_the_same(tmp_path):
    path = tmp_path / "texts.tsv"
    path.write_text("feat_id\tnko\tlatin\none\tߞߋߟߋ߲\tkelen\ntwo\t\tfila\n")
    assert read_text_table(path, ["one", "two"]).texts["two"] == IdTexts(None, "fila", None)


def test_all_faults_of_a_table_and_ids_that_never_match(tmp_path):
    rows = [*ROWS, ROWS[0], {"nko": "ߞ"}, {"feat_id": "two"}, {"feat_id": "one", "nko": ["ߞ"]}]
    with pytest.raises(CorpusError) as error:
        read_text_table(table_of(tmp_path, rows), ["one", "two"])
    for said in (":5: id 'one' has an earlier row", ":6: has no id", ":7: has no text", ":8: 'nko' is a list"):
        assert said in error.value.message
    with pytest.raises(CorpusError, match=r"none of its 4 ids is one of 1 recordings \('one' there, 'x/one' here\)"):
        read_text_table(table_of(tmp_path), ["x/one"])


def test_recordings_get_their_texts_in_both_scripts(tmp_path, capsys):
    folders.write_tones(tmp_path / "in")
    command = ["asr", "features", str(tmp_path / "in"), "--features", "logmel", "--out", str(tmp_path / "out")]
    assert cli.main([*command, "--texts", str(table_of(tmp_path))]) == 0
    printed = capsys.readouterr().out
    assert "of 4 utterances, 2 with text" in printed and "2 of 4 texts joined by id" in printed
    assert "2 recordings without a text in it: four, three" in printed
    found = {each.id: (each.text, each.extra) for each in FeatureStore.open(tmp_path / "out").utterances}
    assert found["one"] == ("ߞߋߟߋ߲", {"text_nko": "ߞߋߟߋ߲", "text_latin": "kelen"})
    assert found["two"] == ("fila", {"text_latin": "fila"}) and found["three"] == (None, {})


def test_stored_features_get_their_texts_at_training_and_evaluation(tmp_path):
    store = str(write_feature_store(tmp_path / "store"))
    plain = utterances.open_features([store])
    ids = [each.id for each in plain.stores[0].utterances]
    texts = {name: "kelen" if number % 2 else "fila" for number, name in enumerate(ids[:-1])}
    path = table_of(tmp_path, [{"feat_id": name, "latin": text} for name, text in texts.items()])
    settings = AcousticSettings(features=[store], texts=str(path), **RECOGNIZER_OPTIONS)
    features = utterances.open_features(settings.features, settings.texts)
    prepared = utterances.prepare_dataset(settings, features)
    found = {each.id: each.text for part in ("train", "valid", "test") for each in getattr(prepared, part)}
    assert {name: found[name] for name in texts if name in found} == {
        name: texts[name] for name in texts if name in found
    }
    assert found.get(ids[-1]) == plain.stores[0].utterances[-1].text  # it is not in the table
    summary = prepared.summary()["texts"]
    assert (summary["joined"], summary["recordings_without_text_ids"]) == (len(ids) - 1, [ids[-1]])
    assert prepared.digest() != utterances.prepare_dataset(settings, plain).digest()
    assert "texts" not in json.dumps(AcousticSettings(features=[store], **RECOGNIZER_OPTIONS).resolved()["features"])
