"""The same short recordings under the manifests of several toolkits; each function fills a folder."""

from __future__ import annotations

import csv
import gzip
import json

import numpy as np
import soundfile

RATE = 16000
TEXTS = {"one": "ߞߋߟߋ߲", "two": "ߝߌߟߊ", "three": "ߛߊߓߊ", "four": "ߣߊߣߌ"}
SECONDS = 0.25


def write_tone(path, number=1, seconds=SECONDS, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * RATE)) / RATE
    tones = [0.2 * np.sin(2 * np.pi * 110 * (number + channel) * time) for channel in range(channels)]
    soundfile.write(path, np.stack(tones, 1), RATE)
    return path


def write_tones(folder, names=tuple(TEXTS)):
    return [write_tone(folder / f"{name}.wav", number) for number, name in enumerate(names, 1)]


def write_json_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8").write(text)
    return path


def hf_csv(folder):
    write_tones(folder)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerows([["file_name", "transcription"], *([f"{name}.wav", text] for name, text in TEXTS.items())])
    return folder


def hf_jsonl(folder):
    write_tones(folder)
    rows = [{"file_name": f"{name}.wav", "normalized_text": text} for name, text in TEXTS.items()]
    write_json_lines(folder / "metadata.jsonl", rows)
    return folder


def hf_split(folder):
    for split, names in (("train", ("one", "two", "three")), ("test", ("four", "one"))):
        write_tones(folder / split, names)
        rows = [{"file_name": f"{name}.wav", "text": TEXTS[name]} for name in names]
        write_json_lines(folder / split / "metadata.jsonl", rows)
    return folder


def hf_audio(folder, far):
    rows = [
        {"audio": {"path": str(path), "sampling_rate": RATE}, "text": TEXTS[path.stem]} for path in write_tones(far)
    ]
    write_json_lines(folder / "rows.jsonl", rows)
    return folder


def kaldi(folder, far):
    paths = write_tones(far)
    folder.mkdir()
    (folder / "wav.scp").write_text("".join(f"u{n} {path}\n" for n, path in enumerate(paths)))
    (folder / "text").write_text("".join(f"u{n} {TEXTS[path.stem]}\n" for n, path in enumerate(paths)))
    (folder / "utt2spk").write_text("".join(f"u{n} s{n % 2}\n" for n in range(len(paths))))
    return folder


def kaldi_segments(folder, far):
    path = write_tone(far / "long.wav", seconds=1.0)
    folder.mkdir()
    (folder / "wav.scp").write_text(f"long {path}\n")
    (folder / "segments").write_text("a long 0.0 0.25\nb long 0.25 0.75\nc long 0.75 -1\n")
    (folder / "text").write_text(f"a {TEXTS['one']}\nb {TEXTS['two']}\nc {TEXTS['three']}\n")
    return folder


def common_voice(folder):
    write_tones(folder / "clips")
    names = list(TEXTS)
    for split, part in (("train", names[:2]), ("dev", names[2:3]), ("test", names[3:]), ("validated", names)):
        lines = [f'c{name}\t{name}.wav\t"{TEXTS[name]}" n\'\t2\n' for name in part]
        (folder / f"{split}.tsv").write_text("client_id\tpath\tsentence\tup_votes\n" + "".join(lines))
    return folder


def lhotse(folder, far, name="cuts.jsonl.gz"):
    cuts = []
    for number, path in enumerate(write_tones(far)):
        supervision = {"id": f"s{number}", "start": 0.0, "duration": 0.1, "channel": 0, "text": TEXTS[path.stem],
                       "speaker": "awa"}  # fmt: skip
        source = {"type": "file", "channels": [0], "source": str(path)}
        cuts.append({"id": f"c{number}", "start": 0.05, "duration": 0.1, "channel": 0, "supervisions": [supervision],
                     "recording": {"id": f"r{number}", "sources": [source]}, "type": "MonoCut"})  # fmt: skip
    write_json_lines(folder / name, cuts)
    return folder


def nemo(folder):
    write_tone(folder / "long.wav", seconds=1.0)
    rows = [
        {"audio_filepath": "long.wav", "offset": 0.25 * n, "duration": 0.25, "text": text}
        for n, text in enumerate(TEXTS.values())
    ]
    write_json_lines(folder / "manifest.json", rows)
    return folder


def start_and_end(folder, far):
    path = write_tone(far / "long.wav", seconds=0.5)
    rows = [{"id": f"u{n}", "audio": str(path), "start": 0.1 * n, "end": 0.1 * n + 0.1, "text": "ߞ"} for n in range(4)]
    write_json_lines(folder / "rows.jsonl", rows)
    return folder


def channels(folder):
    write_tone(folder / "two.wav", channels=2)
    rows = [{"id": f"u{n}", "audio": "two.wav", "channel": n, "text": "ߞ"} for n in range(2)]
    write_json_lines(folder / "rows.jsonl", rows)
    return folder


def wrong_duration(folder):
    write_tones(folder, ("one",))
    write_json_lines(folder / "metadata.jsonl", [{"audio": "one.wav", "duration": 99.0, "text": TEXTS["one"]}])
    return folder
