"""Feature stores: what is read is what was written, every corruption is named, and a resumed writer loses nothing."""

from __future__ import annotations

import errno
import json
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from thunder import digest
from thunder.acoustic.features import store_parts
from thunder.acoustic.features.recipe import Recipe
from thunder.acoustic.features.shard import quantize_frames
from thunder.acoustic.features.store import FeatureStore, Utterance
from thunder.acoustic.features.store_index import read_index, write_index
from thunder.acoustic.features.store_writer import StoreWriter
from thunder.errors import ArtifactError, CorpusError, UsageError

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


def bytes_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.parametrize("recipe", [FP16, INT8], ids=lambda recipe: recipe.dtype)
def test_what_is_read_is_what_was_written(tmp_path, recipe):
    content = write(tmp_path, recipe)
    store = FeatureStore.open(tmp_path, verify=True)
    assert len(store) == content["utterances"] == 12 and len(content["shards"]) > 2
    assert (store.recipe, store.recipe_digest, store.width) == (recipe, recipe.digest(), WIDTH)
    for position in np.random.default_rng(0).permutation(12):
        wanted, found = frames_of(position), store.features(int(position))
        assert found.dtype == np.float32
        if recipe.dtype == "fp16":
            assert np.array_equal(found, wanted.astype(np.float16).astype(np.float32))
        else:
            assert (np.abs(found - wanted) <= np.abs(wanted).max(1, keepdims=True) / 254 + 1e-6).all()
        said = store.utterances[position]
        assert said == Utterance(
            f"u{position}", len(wanted), 0.5, f"ߒߞߏ {position}", said.speaker, "train", "a" * 64, {"lang": "nqo"}
        )
    with pytest.raises(IndexError):
        store.features(12)


@pytest.mark.parametrize("recipe", [FP16, INT8], ids=lambda recipe: recipe.dtype)
def test_shards_are_safetensors_that_others_read(tmp_path, recipe):
    numpy_files = pytest.importorskip("safetensors.numpy")
    write(tmp_path, recipe, numbers=[0, 1, 2], shard_bytes=10**6)
    found = numpy_files.load_file(tmp_path / "shard-00000.safetensors")
    wanted = np.concatenate([frames_of(number) for number in range(3)])
    scales = found["scales"][:, None] if recipe.dtype == "int8" else 1
    assert found["features"].shape == wanted.shape
    assert np.abs(found["features"].astype(np.float32) * scales - wanted).max() < 0.02


@settings(max_examples=60)
@given(arrays.arrays(np.float32, (3, 4), elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=True)))
def test_int8_is_off_by_half_a_scale_at_most(features):
    levels, scales = quantize_frames(features)
    assert levels.dtype == np.int8 and np.abs(levels.astype(int)).max() <= 127
    error = np.abs(levels.astype(np.float64) * scales[:, None].astype(np.float64) - features)
    bound = np.abs(features.astype(np.float64)).max(1, keepdims=True) / 254
    assert (error <= bound * (1 + 1e-4) + 127 * 2e-45).all()


def test_the_digest_follows_data_and_texts(tmp_path):
    first, again, other = (write(tmp_path / name, numbers=numbers) for name, numbers in
                           (("a", [1, 2]), ("b", [1, 2]), ("c", [2, 1])))  # fmt: skip
    assert first["checksum"] == again["checksum"] != other["checksum"]


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
    "index of another recipe": (lambda f: edit(f, recipe=INT8.resolved()), "recipe has another digest"),
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


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_is_named(folder, name):
    FeatureStore.open(folder, verify=True)
    damage, said = CORRUPTIONS[name]
    damage(folder)
    with pytest.raises(ArtifactError, match=said):
        FeatureStore.open(folder, verify=True)


@pytest.mark.parametrize(("lost", "named"), [(1, "u5"), (4 * 4, "u5"), (4 * 5, "u4"), (4 * 30, "u0")])
def test_a_torn_shard_of_int8_names_the_first_utterance_that_is_not_whole(tmp_path, lost, named):
    # the scales stand at the end: 3, 4, 5, 6, 3 and 4 of them
    write(tmp_path, INT8, range(6), shard_bytes=10**6)
    path = tmp_path / "shard-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(ArtifactError, match=f"utterance '{named}': torn"):
        FeatureStore.open(tmp_path)


def test_without_verify_sizes_are_checked_and_nan_is_found_on_reading(folder):
    put_nan(folder)
    store = FeatureStore.open(folder)
    assert store.features(1).shape == (4, WIDTH)
    with pytest.raises(ArtifactError, match="utterance 'u0': its features are not finite"):
        store.features(0)


def test_features_of_another_recipe_are_refused(folder):
    store = FeatureStore.open(folder)
    store.require(FP16.digest(), "the checkpoint")
    with pytest.raises(ArtifactError, match="another recipe .*kind logmel.* than those of the checkpoint"):
        store.require(INT8.digest(), "the checkpoint")
    assert FP16.differences(INT8) == ["dtype fp16, not int8"]


@pytest.mark.parametrize(("bad", "said"), [(np.nan, "not finite in frame 1"), (1e6, "too large for fp16")])
def test_features_that_cannot_be_stored_are_refused_by_name(tmp_path, bad, said):
    features = frames_of(0)
    features[1, 2] = bad
    with StoreWriter(tmp_path, FP16, WIDTH) as writer, pytest.raises(CorpusError, match=f"utterance 'u0': .*{said}"):
        writer.add(utterance_of(0), features)


@pytest.mark.parametrize("stop", [1, 4, 5, 9, 11])
@pytest.mark.parametrize("recipe", [FP16, INT8], ids=lambda recipe: recipe.dtype)
def test_a_writer_that_stopped_goes_on_to_the_same_bytes(tmp_path, recipe, stop):
    write(tmp_path / "whole", recipe)
    with StoreWriter(tmp_path / "resumed", recipe, WIDTH, shard_bytes=150) as writer:
        for number in range(stop):
            writer.add(utterance_of(number), frames_of(number))
        done = sum(entry.rows for entry in writer.entries)
    (tmp_path / "resumed" / ".shard-00009.safetensors.1.tmp").write_bytes(b"left by a killed process")
    with StoreWriter(tmp_path / "resumed", recipe, WIDTH, shard_bytes=150) as writer:
        assert writer.position == done
    write(tmp_path / "resumed", recipe)
    assert bytes_of(tmp_path / "resumed") == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("name", ["torn shard", "missing shard", "flipped byte", "list torn", "index edited"])
def test_what_is_damaged_is_made_again_and_the_rest_kept(folder, name):
    before = bytes_of(folder)
    CORRUPTIONS[name][0](folder)
    made = []
    with StoreWriter(folder, FP16, WIDTH, shard_bytes=150) as writer:
        while writer.position < 12:
            made.append(writer.position)
            writer.add(utterance_of(writer.position), frames_of(writer.position))
        writer.finish()
    assert bytes_of(folder) == before
    assert len(made) <= 4, "only the damaged shard's rows"


def test_rows_left_out_are_kept_in_mind_and_can_be_tried_again(tmp_path):
    with StoreWriter(tmp_path, FP16, WIDTH) as writer:
        writer.add(utterance_of(0), frames_of(0))
        writer.leave_out("u1", "is empty")
        assert writer.finish()["left_out"] == 1
    with StoreWriter(tmp_path, FP16, WIDTH) as writer:
        assert (writer.position, writer.left_out) == (2, [("u1", "is empty")])
    with StoreWriter(tmp_path, FP16, WIDTH, redo_left_out=True) as writer:
        assert writer.position == 0


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="is not empty and holds no features"):
        write(tmp_path / "other")
    write(tmp_path / "store", plan={"inputs": "a"})
    for more in ({"recipe": INT8, "plan": {"inputs": "a"}}, {"plan": {"inputs": "b"}}, {"shard_bytes": 99}):
        with pytest.raises(UsageError, match="holds features made with other options: .*, now"):
            write(tmp_path / "store", **more)


def test_a_folder_that_was_only_just_begun_is_gone_on_with(tmp_path):
    write(tmp_path / "whole")
    (tmp_path / "begun").mkdir()
    for name in (".plan.json.77.tmp", ".DS_Store"):
        (tmp_path / "begun" / name).write_bytes(b"{")
    write(tmp_path / "begun")
    (tmp_path / "begun" / ".DS_Store").unlink()
    assert bytes_of(tmp_path / "begun") == bytes_of(tmp_path / "whole")


def test_a_full_disk_leaves_what_is_whole(tmp_path, monkeypatch):
    write(tmp_path / "whole")
    calls = []

    def fsync(number, real=os.fsync):
        calls.append(number)
        if len(calls) == 4:  # plan, first shard and its list went well
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "full")
    names = sorted(path.name for path in (tmp_path / "full").iterdir())
    assert names == [".lock", "plan.json", "shard-00000.jsonl", "shard-00000.safetensors"]
    write(tmp_path / "full")
    assert bytes_of(tmp_path / "full") == bytes_of(tmp_path / "whole")


def test_two_processes_do_not_write_into_one_folder(tmp_path):
    with StoreWriter(tmp_path, FP16, WIDTH), pytest.raises(UsageError, match="another process writes features here"):
        write(tmp_path)


def write_parts(out, count, **more):
    for number in range(1, count + 1):
        folder = store_parts.part_folder(out, (number, count))
        plan = {"inputs": "x", "part": [number, count]} | more.get(str(number), {})
        write(folder, more.get(f"recipe{number}", FP16), range(number - 1, 12, count), plan=plan)


def test_parts_of_hosts_are_put_together(tmp_path):
    write_parts(tmp_path, 3)
    with pytest.raises(ArtifactError, match="part-1-of-3, part-2-of-3, part-3-of-3, not merged yet"):
        FeatureStore.open(tmp_path)
    content = store_parts.merge_parts(tmp_path)
    store = FeatureStore.open(tmp_path, verify=True)
    assert sorted(one.id for one in store.utterances) == sorted(f"u{number}" for number in range(12))
    for position, one in enumerate(store.utterances):
        wanted = frames_of(int(one.id[1:])).astype(np.float16)
        assert np.array_equal(store.features(position), wanted)
    assert store_parts.merge_parts(tmp_path) == content


def test_parts_that_do_not_belong_together_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no finished parts"):
        store_parts.merge_parts(tmp_path)
    write_parts(tmp_path / "input", 2, **{"2": {"inputs": "y"}})
    write_parts(tmp_path / "recipe", 2, recipe2=INT8)
    write_parts(tmp_path / "missing", 2)
    (tmp_path / "missing" / "part-2-of-2" / "index.json").unlink()
    (tmp_path / "twice").mkdir()
    write(tmp_path / "twice" / "part-1-of-2", plan={"inputs": "x"})
    write(tmp_path / "twice" / "part-2-of-2", plan={"inputs": "x"}, numbers=[11, 12])
    cases = {"input": "other input", "recipe": "another recipe_digest", "missing": "part-2-of-2 is missing",
             "twice": "utterance 'u11' is in 2 parts"}  # fmt: skip
    for name, said in cases.items():
        with pytest.raises(ArtifactError, match=said):
            store_parts.merge_parts(tmp_path / name)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2", "01/2"])
def test_parts_are_written_as_i_of_n(text):
    assert store_parts.parse_part("2/3") == (2, 3)
    with pytest.raises(UsageError, match="expected I/N"):
        store_parts.parse_part(text)
