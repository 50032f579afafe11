"""Every layout of recordings and manifests, through `thunder asr features`: the outcome is the expected one."""

from __future__ import annotations

import json

import manifest_folders as folders
import pytest

from thunder.acoustic.features.store import FeatureStore
from thunder.acoustic.manifests.manifest_folder import find_manifests
from thunder.cli import main as cli

N = len(folders.TEXTS)
# (how to make it, input below its folder, utterances, with text, speaker, split, pieces, seconds)
LAYOUTS = {
    "HF metadata.csv": (folders.hf_csv, "", N, N, 0, 0, 0, 1.0),
    "HF metadata.jsonl, normalized_text": (folders.hf_jsonl, "", N, N, 0, 0, 0, 1.0),
    "HF split folders": (folders.hf_split, "", 5, 5, 0, 5, 0, 1.25),
    "HF one split alone": (folders.hf_split, "train", 3, 3, 0, 0, 0, 0.75),
    "HF audio: {path}": (folders.hf_audio, "", N, N, 0, 0, 0, 1.0),
    "Kaldi": (folders.kaldi, "", N, N, N, 0, 0, 1.0),
    "Kaldi, its wav.scp": (folders.kaldi, "wav.scp", N, N, N, 0, 0, 1.0),
    "Kaldi with segments": (folders.kaldi_segments, "", 3, 3, 0, 0, 3, 1.0),
    "Common Voice": (folders.common_voice, "", N, N, N, N, 0, 1.0),
    "Common Voice, one table": (folders.common_voice, "train.tsv", 2, 2, 2, 0, 0, 0.5),
    "lhotse": (folders.lhotse, "", N, N, N, 0, N, 0.4),
    "NeMo": (folders.nemo, "manifest.json", N, N, 0, 0, N, 1.0),
    "start and end": (folders.start_and_end, "", 4, 4, 0, 0, 4, 0.4),
    "channel": (folders.channels, "rows.jsonl", 2, 2, 0, 0, 2, 0.5),
}


def made(make, tmp_path):
    arguments = [tmp_path / "in", tmp_path / "far"][: make.__code__.co_argcount]
    return make(*arguments[:2])


def run_features(path, out, capsys, *more):
    code = cli.main(["asr", "features", str(path), "--features", "logmel", "--out", str(out), "--json", *more])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_its_utterances_with_their_fields(layout, tmp_path, capsys):
    make, below, *expected = LAYOUTS[layout]
    path = made(make, tmp_path) / below
    code, printed, errors = run_features(path, tmp_path / "out", capsys)
    assert code == 0, errors
    report = json.loads(printed)
    counts = report["inputs"]
    found = [counts[f"with_{name}"] for name in ("text", "speaker", "split")]
    assert [report["utterances"], *found, counts["segments"]] == expected[:-1]
    assert report["seconds"] == pytest.approx(expected[-1]) and report["left_out_rows"] == 0
    ids = [utterance.id for utterance in FeatureStore.open(tmp_path / "out").utterances]
    assert len(set(ids)) == expected[0] and str(tmp_path) not in json.dumps(ids)


def test_splits_of_folders_and_tables_are_kept(tmp_path, capsys):
    run_features(folders.hf_split(tmp_path / "hf"), tmp_path / "a", capsys)
    run_features(folders.common_voice(tmp_path / "cv"), tmp_path / "b", capsys)
    splits = [{each.id: each.split for each in FeatureStore.open(tmp_path / name).utterances} for name in "ab"]
    assert splits[0] == {"train/one": "train", "train/two": "train", "train/three": "train", "test/four": "test",
                         "test/one": "test"}  # fmt: skip
    assert splits[1] == {"one": "train", "two": "train", "three": "dev", "four": "test"}


def test_a_duration_that_contradicts_the_file_is_a_fault(tmp_path, capsys):
    code, _, errors = run_features(folders.wrong_duration(tmp_path / "in"), tmp_path / "out", capsys)
    assert code != 0 and "is 0.25 s long, and its row states a duration of 99 s" in errors


def test_files_of_rows_that_are_not_read_are_named(tmp_path, capsys):
    code, printed, _ = run_features(folders.nemo(tmp_path / "in"), tmp_path / "out", capsys)
    report = json.loads(printed)
    assert code == 0 and report["inputs"]["with_text"] == 0
    assert any("manifest.json not read" in note for note in report["input_notes"])


def test_several_files_of_rows_and_no_sound_are_a_question(tmp_path, capsys):
    folder = folders.start_and_end(tmp_path / "in", tmp_path / "far")
    (folder / "more.jsonl").write_bytes((folder / "rows.jsonl").read_bytes())
    code, _, errors = run_features(folder, tmp_path / "out", capsys)
    assert code != 0 and "holds 2 files of rows: more.jsonl, rows.jsonl" in errors and "name one of them" in errors


def test_validated_stands_alone_only_without_tables_of_splits(tmp_path):
    folder = folders.common_voice(tmp_path / "cv")
    sources, others = find_manifests(folder)
    assert [source.split for source in sources] == ["train", "dev", "test"]
    assert [path.name for path in others] == ["validated.tsv"]
    for name in ("train", "dev", "test"):
        (folder / f"{name}.tsv").unlink()
    assert [source.path.name for source in find_manifests(folder)[0]] == ["validated.tsv"]


def test_fields_without_a_use_are_counted(tmp_path, capsys):
    folder = folders.common_voice(tmp_path / "in")
    command = ["asr", "features", str(folder), "--features", "logmel", "--out", str(tmp_path / "out")]
    for more in (["--dry-run"], []):
        assert cli.main([*command, *more]) == 0
        printed = capsys.readouterr().out
        assert "of 4 utterances, 4 with text, 4 with speaker, 4 with split" in printed and "up_votes (4)" in printed
