"""Many utterances: memory that does not grow with the features, and an index that opens fast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

# runs by itself, so that its peak is its own; resident pages of mapped files are the system's to take back
PROGRAM = """
import json, sys, time
from pathlib import Path
import numpy as np
from thunder.acoustic.features.recipe import Recipe
from thunder.acoustic.features.store import FeatureStore, Utterance
from thunder.acoustic.features.store_writer import StoreWriter

folder, dtype, count, width = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
longest, shard_bytes = int(sys.argv[5]), int(sys.argv[6])

def own_memory():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

noise = np.random.default_rng(0).standard_normal((longest, width)).astype(np.float32)
frames_of = lambda number: 1 + number * 7919 % longest
features = lambda number: noise[: frames_of(number)] + np.float32(number % 97)
base, peak = own_memory(), 0
begun = time.process_time()
with StoreWriter(folder, Recipe(kind="logmel", n_mels=width, dtype=dtype), width, shard_bytes=shard_bytes) as writer:
    while writer.position < count:
        number = writer.position
        text = "ߒߞߏ ߞߊ߲ ߠߊ߫ ߖߊ߬ߡߊ ߞߊ߬ߙߊ߲ %d" % number
        one = Utterance(f"utterance-{number}", 0, frames_of(number) / 100, text, f"s{number % 50}")
        writer.add(one, features(number))
        if number % 500 == 0:
            peak = max(peak, own_memory())
    index = writer.finish()
written, begun = time.process_time() - begun, time.process_time()
writing, peak = peak - base, 0
store = FeatureStore.open(folder)
opened, begun = time.process_time() - begun, time.process_time()
opening = own_memory() - base
for step, position in enumerate(np.random.default_rng(1).permutation(count)):
    wanted, found = features(position), store.features(int(position))
    assert found.shape == wanted.shape and np.abs(found - wanted).max() < (0.04 if dtype == "fp16" else 0.42)
    if step % 500 == 0:
        peak = max(peak, own_memory())
read = time.process_time() - begun
size = sum(shard["bytes"] for shard in index["shards"])
print(json.dumps({"bytes": size, "shards": len(index["shards"]), "writing": writing, "opening": opening,
                  "reading": peak - base, "write_s": written, "open_s": opened, "read_s": read}))
"""


def measured(folder, *arguments, timeout):
    words = [sys.executable, "-c", PROGRAM, str(folder), *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.expensive
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("dtype", ["fp16", pytest.param("int8", marks=pytest.mark.slow)])
def test_ten_thousand_utterances_in_bounded_memory(tmp_path, dtype):
    found = measured(tmp_path, dtype, 10_000, 80, 200, 20_000_000, timeout=100)
    assert found["bytes"] > (160e6 if dtype == "fp16" else 80e6) and found["shards"] > 3
    # the lists of utterances are held (about 1 kB each), their features are not
    assert max(found["writing"], found["opening"], found["reading"]) < 30e6, found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_as_many_as_the_published_corpus_has(tmp_path):
    found = measured(tmp_path, "int8", 290_596, 8, 60, 20_000_000, timeout=280)
    assert found["opening"] < 400e6 and found["open_s"] < 20, found
