"""`thunder asr features` as the shell sees it: plans, codes, a process that is killed and goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY, TEST_DATA
from typer.testing import CliRunner

from thunder.acoustic.features.store import FeatureStore
from thunder.cli.commands.speech.asr import app
from thunder.cli.main import main
from thunder.errors import ArtifactError

DIGITS = TEST_DATA / "speech" / "en_digits"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".lock"}


def test_features_of_real_recordings(tmp_path):
    done = run("features", DIGITS, "--features", "logmel", "--out", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["utterances"], said["width"], said["left_out_rows"]) == (70, 80, 0)
    store = FeatureStore.open(tmp_path, verify=True)
    assert store.digest == said["checksum"] and {one.speaker for one in store.utterances} >= {"theo", "george"}
    again = run("features", DIGITS, "--features", "logmel", "--out", tmp_path)
    assert "70 utterances, 28.9 s" in again.stdout and "already done: 70" in again.stdout


def test_a_plan_reads_rows_only_and_writes_nothing(tmp_path):
    words = ["features", DIGITS, "--features", "logmel", "--subsample", 2, "--out", tmp_path / "out", "--dry-run"]
    said = json.loads(run(*words, "--json").stdout)
    assert (said["recordings"], said["frames_per_second"]) == (70, 50)
    assert said["seconds"] == pytest.approx(28.85) and said["bytes"] == round(said["seconds"] * 50 * 160)
    assert "70 recordings, 28.8 s in total" in run(*words).stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.expensive
@pytest.mark.parametrize("kind", ["logmel", "whisper"])
def test_a_plan_does_not_import_mlx(tmp_path, kind):
    (tmp_path / "a.flac").write_bytes(b"x")
    words = ["asr", "features", str(tmp_path), "--features", kind, "--out", "none", "--dry-run"]
    if kind == "whisper":
        sizes = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 24, "n_audio_head": 4, "n_audio_layer": 3}
        (tmp_path / "config.json").write_text(json.dumps(sizes))
        words += ["--model", str(tmp_path)]
    code = f"import sys\nfrom thunder.cli.main import main\nassert main({words}) == 0\n"
    code += "assert not [m for m in sys.modules if m.split('.')[0] in ('mlx', 'soundfile', 'soxr', 'torch')]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr


def test_codes_and_words_of_errors(tmp_path, capsys):
    (tmp_path / "a.flac").write_bytes(b"not a recording")
    logmel = ["asr", "features", str(tmp_path), "--features", "logmel", "--out", str(tmp_path / "out")]
    assert main(logmel) == 2
    assert "a.flac: is not audio" in (said := capsys.readouterr().err) and "--keep-going" in said
    assert main([*logmel[:3], "--out", str(tmp_path / "out")]) == 2
    assert "--features logmel" in capsys.readouterr().err
    assert main([*logmel, "--part", "3/2"]) == 2
    assert main(["asr", "merge", str(tmp_path)]) == 2


def test_what_cannot_be_used_is_left_out_on_demand(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.zeros(9000), 16000)
    (tmp_path / "b.flac").write_bytes(b"")
    words = ["features", tmp_path, "--features", "logmel", "--out", tmp_path / "out", "--keep-going"]
    done = run(*words)
    assert done.exit_code == 0, done.output
    for said in ("1 utterances", "is silent: 1", "left out: 1", "b.flac: is empty: 0 bytes"):
        assert said in done.stdout
    assert json.loads(run(*words, "--json").stdout)["left_out_rows"] == 1


def test_a_stopped_command_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    (tmp_path / "a.flac").write_bytes(b"x")
    monkeypatch.setattr("thunder.acoustic.features.extract.extract_features", stop)
    assert main(["asr", "features", str(tmp_path), "--features", "logmel", "--out", str(tmp_path / "out")]) == 130
    assert "run the same command to resume" in capsys.readouterr().err


def test_parts_are_merged(tmp_path):
    for number in (1, 2):
        part = run(
            "features", DIGITS, "--features", "logmel", "--n-mels", 8, "--out", tmp_path, "--part", f"{number}/2"
        )
        assert "thunder asr merge" in part.stdout
    with pytest.raises(ArtifactError, match="not merged yet"):
        FeatureStore.open(tmp_path)
    assert "70 utterances" in run("merge", tmp_path).stdout
    store = FeatureStore.open(tmp_path, verify=True)
    assert json.loads(run("verify", tmp_path, "--json").stdout) == [
        {"folder": str(tmp_path), "utterances": 70, "digest": store.digest}
    ]
    (tmp_path / "part-2-of-2" / "shard-00000.safetensors").unlink()
    assert main(["asr", "verify", str(tmp_path)]) == 4


@pytest.mark.expensive
def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(tmp_path):
    recordings = tmp_path / "recordings"  # five copies of each: long enough to be killed on the way
    recordings.mkdir()
    for path in DIGITS.glob("*.flac"):
        for copy in range(5):
            shutil.copyfile(path, recordings / f"{path.stem}-{copy}.flac")
    words = [sys.executable, "-m", "thunder", "asr", "features", str(recordings), "--features", "logmel"]
    words += ["--shard-bytes", "100000", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = {"cwd": REPOSITORY, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    assert subprocess.run([*words, str(whole)], timeout=90, check=False, **options).returncode == 0
    shards = len(list(whole.glob("*.safetensors")))
    assert shards > 15
    kills = 0
    for wanted in (2, 6):  # killed once early, and again further on
        process = subprocess.Popen([*words, str(killed)], start_new_session=True, **options)
        deadline = time.monotonic() + 60
        while len(list(killed.glob("shard-*.safetensors"))) < wanted and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGKILL)
        kills += process.wait(10) == -signal.SIGKILL
        process.stderr.close()
    assert kills and not (killed / "index.json").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in killed.glob("shard-*.safetensors")}
    last = subprocess.run([*words, str(killed)], timeout=90, check=False, **options)
    assert last.returncode == 0, last.stderr
    assert files_of(killed) == files_of(whole)
    same = [name for name, time_ns in kept.items() if (killed / name).stat().st_mtime_ns == time_ns]
    assert len(same) >= len(kept) - 1 >= 5, "whole shards were not made again"
