"""The pass before the first step: the run is the same with all, some or none of its rows kept, and after a kill."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from cached_rows import OPTIONS, ROWS, STEPS
from conftest import make_rows, write_rows

from thunder.corpora.rows import chat_rows as corpus_rows
from thunder.lora import base_model, cache_warmup, tokenized_rows
from thunder.lora.cache_warmup import warm_up_cache
from thunder.lora.lora_settings import LoraSettings
from thunder.lora.lora_task import LoraTask
from thunder.lora.prompts.load_prompts import load_prompt_format
from thunder.parallel import row_order
from thunder.parallel.world import World
from thunder.training.step import make_optimizer, make_step
from thunder.training.validation import validate

pytestmark = pytest.mark.expensive


@pytest.fixture(scope="module")
def examples(tiny_model, tmp_path_factory):
    rows = corpus_rows.read_rows(
        write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", make_rows(ROWS + 4, seed=9))
    ).rows
    return tokenized_rows.encode_rows(rows, load_prompt_format(tiny_model), 256).examples


@pytest.fixture
def train(tiny_model, examples, tmp_path):
    """Trains with so much disk; returns (adapter, losses, validation, what was logged)."""

    def run(prefix_cache, root=tmp_path / "cache", base=tiny_model, **changes):
        settings = LoraSettings(**OPTIONS | changes, prefix_cache=prefix_cache)
        task = LoraTask(base_model.load_base_model(base), settings, examples[:ROWS], examples[ROWS:])
        said = []
        cache = warm_up_cache(task, settings, World(), base_digest="base", ranks=1, root=root, log=said.append)
        step = make_step(task, make_optimizer(settings), settings, World())
        order = row_order.plan_steps(ROWS, settings.batch_size, 0, until=STEPS, lengths=task.lengths)
        losses = [step(plan, False).loss for plan in order]
        valid = validate(task, World(), lambda: False)
        task.save(tmp_path / "out")
        if cache:
            cache.close()
        return (tmp_path / "out" / "adapters.safetensors").read_bytes(), losses, valid, said

    return run


@pytest.mark.parametrize("layers", [2, 4])
@pytest.mark.parametrize("base", ["tiny_model", "tiny_gemma3n"])
def test_the_same_bytes_with_all_rows_kept_some_or_none(train, request, tmp_path, base, layers):
    """Two layers: above the last keys and values. Four: below them."""
    train = functools.partial(train, base=request.getfixturevalue(base), num_layers=layers)
    off = train("off")
    assert not (tmp_path / "cache").exists() and off[3] == []
    auto = train("auto")
    size = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.entries"))
    assert f"{ROWS + 4} of {ROWS + 4} rows" in auto[3][0] and "dropped from memory" in auto[3][0]
    again = train("auto")
    assert " 0 computed now" in again[3][0]
    half = train(f"{size // 2}B", tmp_path / "half")
    assert "dropped" not in half[3][0]
    assert 0 < sum(path.stat().st_size for path in (tmp_path / "half").rglob("*.entries")) <= size // 2
    assert off[:3] == auto[:3] == again[:3] == half[:3]
    assert off[1][-1] < off[1][0]


def test_a_pass_that_was_cut_off_goes_on(train, tmp_path):
    whole = train("auto")
    (path,) = (tmp_path / "cache").rglob("*.entries")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    resumed = train("auto")
    made = int(resumed[3][0].partition(" rows cached, ")[2].split()[0])
    assert 0 < made < ROWS
    assert resumed[:3] == whole[:3]


def test_other_weights_layers_or_rows_are_other_entries(tiny_model, examples):
    def fingerprints(**changes):
        task = LoraTask(base_model.load_base_model(tiny_model), LoraSettings(**OPTIONS | changes), examples)
        return cache_warmup.cache_fingerprint(task, "base"), cache_warmup.cache_fingerprint(task, "another"), task

    (one, other, task), (deeper, *_), (same, *_) = (
        fingerprints(),
        fingerprints(num_layers=3),
        fingerprints(learning_rate=1.0),
    )
    assert len({one, other, deeper}) == 3 and one == same
    keys = {task.engine.prefix.entry_key(example) for example in examples}
    assert len(keys) == len(examples)
    moved = tokenized_rows.Example(examples[0].ids, examples[0].offset + 1, examples[0].row)
    assert task.engine.prefix.entry_key(moved) not in keys


def test_a_rank_makes_the_rows_that_it_will_meet(tiny_model, examples):
    settings = LoraSettings(**OPTIONS | {"iters": 40}, probe_rows=0)
    task = LoraTask(base_model.load_base_model(tiny_model), settings, examples[:ROWS], examples[ROWS:])
    parts = [cache_warmup.rows_for_rank(task, settings, World(rank, 2), 2) for rank in (0, 1)]
    keys = [{task.engine.prefix.entry_key(example) for example in part} for part in parts]
    assert not keys[0] & keys[1] and len(keys[0] | keys[1]) == ROWS + 4 == len(parts[0]) + len(parts[1])
    met = set()
    for plan in row_order.plan_steps(ROWS, 6, settings.seed, until=40, lengths=task.lengths):
        met |= {task.engine.prefix.entry_key(task.train_examples[row]) for row in row_order.rank_share(plan.rows, 1, 2)}
    assert met <= keys[1]
    assert keys[0] | keys[1] >= {task.engine.prefix.entry_key(example) for example in task.probe_examples_of(0, 1)}
    short = LoraSettings(**OPTIONS | {"iters": 2, "probe_rows": 0})
    few = LoraTask(base_model.load_base_model(tiny_model), short, examples[:ROWS], examples[ROWS:])
    assert len(cache_warmup.rows_for_rank(few, short, World(), 1)) == 4 + 2 * 3


def test_a_rank_makes_the_training_rows_that_its_validations_score(tiny_model, examples):
    settings = LoraSettings(**OPTIONS | {"iters": 1}, probe_rows=8)
    task = LoraTask(base_model.load_base_model(tiny_model), settings, examples[:ROWS], examples[ROWS:])
    for rank in (0, 1):
        wanted = {
            task.engine.prefix.entry_key(row) for row in cache_warmup.rows_for_rank(task, settings, World(rank, 2), 2)
        }
        probed = {task.engine.prefix.entry_key(row) for row in task.probe_examples_of(rank, 2)}
        assert len(probed) == 4 and probed <= wanted


def test_a_size_is_said_in_bytes():
    from thunder.config import SettingsLayer, build_settings
    from thunder.errors import ConfigError

    with pytest.raises(ConfigError, match="expected a size such as 4GB or 500MB, not 'much', auto or off"):
        build_settings(LoraSettings, [SettingsLayer("test", {"prefix_cache": "much"})])
    assert LoraSettings(prefix_cache="1.5GB").digest() == LoraSettings().digest(), "it decides nothing of the result"


def test_recomputed_activations_train_the_same(train, tiny_gemma3n, monkeypatch):
    """gemma3n's engine recomputes by itself, inside the compiled step, keys and values of other layers included."""
    from mlx_lm.models import gemma3n

    block = gemma3n.Gemma3nDecoderLayer
    monkeypatch.setattr(block, "__call__", block.__call__)  # which mlx_lm's way changes for good
    how = {"base": tiny_gemma3n, "num_layers": 5, "lora_dropout": 0.0}
    stock, again = (train("auto", **how, grad_checkpoint=on) for on in (False, True))
    np.testing.assert_allclose(again[1], stock[1], rtol=1e-5)
