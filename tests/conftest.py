"""Shared fixtures: a tiny Gemma with random weights, rows for it, and worlds of several real ranks on loopback."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from session_options import (  # noqa: F401 (hooks of pytest)
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_xdist_auto_num_workers,
)
from version_artifacts import workspace  # noqa: F401 (a fixture)

# a shell's background job has Ctrl-C ignored, and so would all that tests start and interrupt
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[1]
STARTUP = REPOSITORY / "tests" / "support" / "startup"
STARTUP_CACHE = REPOSITORY / ".pytest_cache" / "startup"
# processes that tests start find this tree's modules wherever they run, and start faster (startup/sitecustomize.py)
SEARCHED = [str(REPOSITORY), str(STARTUP), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(SEARCHED))
os.environ["TEST_STARTUP_CACHE"] = str(STARTUP_CACHE)
STARTUP_CACHE.mkdir(parents=True, exist_ok=True)
# as launch.sh sets it: workers, ranks and BLAS threads would fight for the cores
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# what every test may read; tests/data/README.md has the sources and licenses
TESTS = REPOSITORY / "tests"
TEST_DATA = TESTS / "data"
# the whole collection, which is not part of the repository: for slow tests only
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
needs_shared_data = pytest.mark.skipif(
    not SHARED_DATA.is_dir(), reason=f"needs the whole data collection at {SHARED_DATA} (sources: tests/data/README.md)"
)


def shipped_and_whole(path: str, *shipped, whole: tuple) -> list:
    """Parameters for a test that reads a shipped subset always and the whole file of the collection when slow.

    Args:
        path: the file or folder below `tests/data` and below the collection.
        shipped: the test's further parameters for the subset.
        whole: the same for the whole file.
    """
    marks = [pytest.mark.slow, needs_shared_data]
    return [
        pytest.param(TEST_DATA / path, *shipped, id=f"{Path(path).stem}-shipped"),
        pytest.param(SHARED_DATA / path, *whole, id=f"{Path(path).stem}-whole", marks=marks),
    ]


WORDS = "ߊ߬ ߞߊ߬ ߕߊ߯ ߛߏ ߡߐ߱ ߓߘߊ߫ ߣߊ߬ ߟߊ߫ ߦߋ߫ ߡߎ߰ߛߏ ߗߍ߭ ߘߋ߲ ߓߏ߲ ߖߌ ߛߓߍ".split()


def make_rows(count: int, seed: int = 0, longest: int = 9) -> list[dict]:
    """ChatML rows of unequal length."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        wanted = " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, longest)))
        said = "".join(letter for letter in wanted if draw.random() > 0.2) or "ߊ"
        rows.append({"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": wanted}]})
    return rows


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def tokenizer_text() -> list[str]:
    return [" ".join(random.Random(line).choices(WORDS, k=8)) for line in range(300)]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """Folder of a gemma4_text with all of its features, random float32 weights, and a sentencepiece tokenizer."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models import gemma4_text

    from thunder import digest
    from thunder.lora import tokenizer

    folder = tmp_path_factory.mktemp("tiny-gemma4")
    tokenizer.save_tokenizer(folder, tokenizer.train_tokenizer(tokenizer_text(), 320), 512)
    config = {
        "model_type": "gemma4_text", "hidden_size": 32, "num_hidden_layers": 6, "intermediate_size": 48,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "global_head_dim": 32,
        "num_kv_shared_layers": 3, "hidden_size_per_layer_input": 8, "vocab_size": 320,
        "vocab_size_per_layer_input": 320,
        "sliding_window": 16, "sliding_window_pattern": 3, "max_position_embeddings": 512, "use_double_wide_mlp": True,
        "final_logit_softcapping": 30.0, "eos_token_id": [1, 6], "pad_token_id": 0,
    }  # fmt: skip
    mx.random.seed(11)
    model = gemma4_text.Model(gemma4_text.ModelArgs.from_dict(config))
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"})
    digest.write_json(folder / "config.json", config)
    return folder


TINY_GEMMA3N = {
    "model_type": "gemma3n_text", "hidden_size": 32, "num_hidden_layers": 6, "intermediate_size": [48, 56] * 3,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "rms_norm_eps": 1e-6, "vocab_size": 320,
    "vocab_size_per_layer_input": 300, "num_kv_shared_layers": 3, "hidden_size_per_layer_input": 8,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2, "sliding_window": 12,
    "rope_local_base_freq": 10000.0, "rope_theta": 1000000.0, "max_position_embeddings": 512,
    "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0, 0.0, 0.0], "laurel_rank": 4, "final_logit_softcapping": 30.0,
    "altup_num_inputs": 4, "altup_active_idx": 0, "altup_coef_clip": 120.0, "altup_correct_scale": True,
}  # fmt: skip


def random_gemma3n(**changes):
    """A gemma3n with all of its features and random float32 weights, also where mlx_lm starts with zeros."""
    import mlx.core as mx
    from mlx_lm.models import gemma3n

    mx.random.seed(7)
    model = gemma3n.Model(gemma3n.ModelArgs("gemma3n", TINY_GEMMA3N | changes))
    for layer in model.layers:
        layer.altup.correct_output_scale = mx.random.normal(layer.altup.correct_output_scale.shape)
    mx.eval(model.parameters())
    return model


@pytest.fixture(scope="session")
def tiny_gemma3n(tmp_path_factory) -> Path:
    """Folder of such a model."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from thunder import digest
    from thunder.lora import tokenizer

    folder = tmp_path_factory.mktemp("tiny-gemma3n")
    tokenizer.save_tokenizer(folder, tokenizer.train_tokenizer(tokenizer_text(), 320), 512)
    weights = dict(tree_flatten(random_gemma3n().parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    ends = {"eos_token_id": [1, 6], "pad_token_id": 0}
    digest.write_json(folder / "config.json", {"model_type": "gemma3n", "text_config": TINY_GEMMA3N, **ends})
    return folder


WORKERS = 16  # ranges of ports that they share


def run_main(*words) -> tuple[int, str, str]:
    """`thunder WORDS` in this process, which is a second cheaper than one of its own: its code, stdout and stderr."""
    from thunder.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(REPOSITORY), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


def free_port_pair(count: int) -> list[int]:
    sockets = []
    draw = random.Random()
    # a worker of pytest-xdist has ports of its own, since a port is free again until the rank binds it
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    first = 20000 + worker * (12000 // WORKERS)
    while len(sockets) < count:
        candidate = socket.socket()
        try:
            candidate.bind(("127.0.0.1", draw.randrange(first, first + 12000 // WORKERS)))
            sockets.append(candidate)
        except OSError:
            candidate.close()
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextlib.contextmanager
def rank_runner(folder: Path):
    """Gives the function that runs a Python script as N ranks of a real ring on loopback.

    The function returns each rank's (code, output). `folder` holds its scripts and host files.
    """
    started = []

    def run(size: int, script: str, *arguments: str, timeout: float = 250) -> list[tuple[int, str]]:
        hostfile = folder / f"hostfile-{size}-{len(started)}.json"
        hostfile.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_port_pair(size)]))
        code = folder / f"script-{len(started)}.py"
        code.write_text(script, encoding="utf-8")
        processes = []
        for rank in range(size):
            environ = os.environ | {
                "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], *map(str, (TESTS, TESTS / "support"))]),
                "THUNDER_JOB_ID": "abc123",
                "THUNDER_RANK": str(rank),
            }
            environ |= {"THUNDER_WORLD_SIZE": str(size), "OPENBLAS_NUM_THREADS": "1"}
            if size > 1:
                environ |= {"MLX_RANK": str(rank), "MLX_HOSTFILE": str(hostfile)}
            processes.append(
                subprocess.Popen(
                    [sys.executable, str(code), *arguments],
                    env=environ,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        started.extend(processes)
        return [(process.wait(timeout), process.stdout.read()) for process in processes]

    try:
        yield run
    finally:
        for process in started:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.fixture
def run_ranks(tmp_path):
    """Run a Python script as N ranks; see `rank_runner`."""
    with rank_runner(tmp_path) as run:
        yield run


@pytest.fixture
def adapter(tiny_model, tmp_path) -> Path:
    """An adapter of the tiny model that does something, as training saves it."""
    import mlx.core as mx

    from thunder.lora import adapters, base_model
    from thunder.lora.lora_settings import LoraSettings

    loaded, settings = base_model.load_base_model(tiny_model), LoraSettings(num_layers=2, lora_rank=2)
    layers = adapters.add_lora(loaded, settings)
    mx.random.seed(3)
    kept = adapters.disable_adapter(loaded)
    adapters.enable_adapter(loaded, {name: mx.random.normal(array.shape) * 0.3 for name, array in kept.items()})
    ours = {"model": "tiny", "base_sha256": base_model.base_digest(tiny_model)}
    adapters.save_adapter(tmp_path / "adapter", loaded, settings, layers, ours)
    return tmp_path / "adapter"
