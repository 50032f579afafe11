"""Small feature stores of random frames."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np

from thunder import digest
from thunder.acoustic.features.recipe import Recipe
from thunder.acoustic.features.store import Utterance
from thunder.acoustic.features.store_index import read_index, write_index
from thunder.acoustic.features.store_writer import StoreWriter

WIDTH = 5
FP16, INT8 = (Recipe(kind="logmel", n_mels=WIDTH, dtype=dtype) for dtype in ("fp16", "int8"))


def frames_of(number):
    return np.random.default_rng(number).standard_normal((3 + number % 4, WIDTH)).astype(np.float32)


def utterance_of(number):
    name = f"u{number}"
    return Utterance(name, 0, 0.5, f"ߒߞߏ {number}", "awa" if number % 2 else None, "train", "a" * 64, {"lang": "nqo"})


def write(folder, recipe=FP16, numbers=range(12), shard_bytes=150, **more):
    numbers = list(numbers)
    with StoreWriter(folder, recipe, WIDTH, shard_bytes=shard_bytes, **more) as writer:
        while writer.position < len(numbers):
            number = numbers[writer.position]
            writer.add(utterance_of(number), frames_of(number))
        return writer.finish()


def reshape_header(path, change):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    table = json.loads(data[8 : 8 + length])
    change(table)
    path.write_bytes(data[:8] + json.dumps(table).encode().ljust(length) + data[8 + length :])


def edit(folder, **values):
    """An index that somebody changed and gave a fitting checksum."""
    content = read_index(folder)
    content.update(values)
    write_index(folder, {name: value for name, value in content.items() if name not in ("schema", "checksum")})


def put_nan(folder):
    """NaN in shard 0's first frame, with every digest made to fit: as a writer that does not look would leave it."""
    path, head = folder / "shard-00000.safetensors", folder / "shard-00000.jsonl"
    data = bytearray(path.read_bytes())
    data[1024:1026] = np.float16(np.nan).tobytes()
    path.write_bytes(data)
    lines = head.read_text(encoding="utf-8").splitlines(keepends=True)
    first = json.loads(lines[1])
    stored = np.frombuffer(bytes(data[1024 : 1024 + 2 * WIDTH * first["frames"]]), np.float16)
    lines[1] = json.dumps(first | {"crc32": zlib.crc32(stored.tobytes())}) + "\n"
    head.write_text("".join(lines), encoding="utf-8")
    shards = read_index(folder)["shards"]
    shards[0] |= {"sha256": digest.sha256_file(path), "list_sha256": digest.sha256_file(head)}
    edit(folder, shards=shards)


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


CORRUPTIONS = {
    "torn shard": (
        lambda f: (f / "shard-00001.safetensors").write_bytes((f / "shard-00001.safetensors").read_bytes()[:-12]),
        r"shard-00001.safetensors: utterance 'u7': torn: \d+ bytes, the index says",
    ),
    "longer shard": (
        lambda f: (f / "shard-00001.safetensors").open("ab").write(b"more"), r"shard-00001.safetensors: \d+ bytes, the"
    ),
    "missing shard": (lambda f: (f / "shard-00002.safetensors").unlink(), "shard-00002.safetensors: is missing"),
    "flipped byte": (
        lambda f: flip(f / "shard-00001.safetensors", 1030), "shard-00001.safetensors: utterance 'u4': its features"
    ),
    "flipped byte of the padding": (lambda f: flip(f / "shard-00001.safetensors", 1000), "header says|damaged"),
    "another recipe": (
        lambda f: reshape_header(f / "shard-00000.safetensors", lambda t: t["__metadata__"].update(recipe="b" * 64)),
        "shard-00000.safetensors: holds features of another recipe",
    ),
    "index edited": (
        lambda f: (f / "index.json").write_text((f / "index.json").read_text().replace('"logmel"', '"whisper"')),
        "index.json: was edited or is damaged",
    ),
    "index torn": (
        lambda f: (f / "index.json").write_bytes((f / "index.json").read_bytes()[:-40]), "index.json: damaged"
    ),
    "index of another recipe": (lambda f: edit(f, recipe=INT8.resolved()), "recipe does not match its recipe_digest"),
    "index without shards": (lambda f: edit(f, shards=3), "the index cannot be used"),
    "index names a shard that is not": (
        lambda f: edit(f, shards=[read_index(f)["shards"][0] | {"file": "shard-7.safetensors"}]), "shard-7.jsonl"
    ),
    "no index": (lambda f: (f / "index.json").unlink(), "the features are not complete"),
    "list torn": (
        lambda f: (f / "shard-00000.jsonl").write_bytes((f / "shard-00000.jsonl").read_bytes()[:-9]),
        "shard-00000.jsonl:5: damaged",
    ),
    "text edited": (
        lambda f: (f / "shard-00001.jsonl").write_text(
            (f / "shard-00001.jsonl").read_text(encoding="utf-8").replace("ߒߞߏ", "ߒߞߊ"), encoding="utf-8"
        ),
        "shard-00001.jsonl: sha256 is",
    ),
    "NaN": (put_nan, "shard-00000.safetensors: utterance 'u0': its features are not finite"),
}  # fmt: skip
