"""The test at the end of training: the base beside the adapter, on one rank and on two."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import pytest
from conftest import REPOSITORY, make_rows, write_rows

from thunder.corpora.rows import chat_rows
from thunder.errors import Interrupted
from thunder.evaluation import adapter_comparison
from thunder.evaluation.decoding.model_engine import ModelEngine
from thunder.lora import adapters, base_model
from thunder.lora.lora_settings import LoraSettings
from thunder.lora.prompts.load_prompts import load_prompt_format
from thunder.parallel.world import World
from thunder.text.distance import edit_distance

KEYS = {"rows", "reference_chars", "cer_asr", "cer_before", "cer_after", "improved", "unchanged", "worse"}


@pytest.fixture(scope="module")
def some_rows(tmp_path_factory):
    return chat_rows.read_rows(
        write_rows(tmp_path_factory.mktemp("rows") / "r.jsonl", make_rows(5, seed=1, longest=4))
    ).rows


def noisy(tiny_model):
    """A model under an adapter that does something, with its prompt format."""
    loaded = base_model.load_base_model(tiny_model)
    adapters.add_lora(loaded, LoraSettings(num_layers=2, lora_rank=2))
    mx.random.seed(3)
    kept = adapters.disable_adapter(loaded)
    adapters.enable_adapter(loaded, {name: mx.random.normal(array.shape) * 0.3 for name, array in kept.items()})
    return loaded, load_prompt_format(tiny_model)


@pytest.mark.expensive
def test_base_and_adapter_on_the_same_rows(tiny_model, some_rows, tmp_path):
    told = []
    trained = noisy(tiny_model)
    got = adapter_comparison.compare_adapter_with_base(
        *trained, some_rows, World(), tmp_path, lambda *counts: told.append(counts)
    )
    lines = [json.loads(line) for line in (tmp_path / adapter_comparison.PREDICTIONS).read_text().splitlines()]
    assert [line["row_id"] for line in lines] == [row.row_id for row in some_rows]
    plain = ModelEngine(base_model.load_base_model(tiny_model), *trained[1:])
    alone = [
        each.text
        for each in plain.propose([adapter_comparison.cases.case_from_row(row, n) for n, row in enumerate(some_rows)])
    ]
    assert [line["prediction_before"] for line in lines] == alone
    assert [line["prediction_after"] for line in lines] != alone
    assert told[-1] == (10, 10)
    assert got.keys() >= KEYS
    for name, text in (("asr", "asr_text"), ("before", "prediction_before"), ("after", "prediction_after")):
        counted = sum(edit_distance(line[text].strip(), line["reference_text"].strip()) for line in lines)
        assert got[f"cer_{name}"] == counted / got["reference_chars"]
    repair = got["repair"]
    assert (repair["cer_before"], repair["cer_after"]) == (got["cer_asr"], got["cer_after"])
    assert repair["base"]["cer_after"] == got["cer_before"]
    assert repair["adapter_over_base"]["improved"] == got["improved"]


@pytest.mark.expensive
def test_the_decoding_options_of_a_run_are_those_of_its_test(tiny_model, some_rows, tmp_path):
    adapter_comparison.compare_adapter_with_base(
        *noisy(tiny_model), some_rows, World(), tmp_path, chunk_words=2, change_margin=1e9
    )
    lines = [json.loads(line) for line in (tmp_path / adapter_comparison.PREDICTIONS).read_text().splitlines()]
    assert [line["prediction_after"] for line in lines] == [line["asr_text"] for line in lines]


def test_whoever_stops_is_heard_while_rows_are_answered(tiny_model, some_rows, tmp_path):
    def stop(done, total):
        raise Interrupted("here")

    trained = noisy(tiny_model)
    with pytest.raises(Interrupted):
        adapter_comparison.compare_adapter_with_base(*trained, some_rows, World(), tmp_path, stop)
    assert not (tmp_path / adapter_comparison.PREDICTIONS).exists()


RANK = """
import json, sys
from pathlib import Path
sys.path[:0] = sys.argv[4:]
from test_adapter_comparison import noisy
from thunder.corpora.rows import chat_rows
from thunder.evaluation import adapter_comparison
from thunder.parallel import world

ring = world.join_world()
trained = noisy(Path(sys.argv[1]))
rows = chat_rows.read_rows(Path(sys.argv[2])).rows
got = adapter_comparison.compare_adapter_with_base(*trained, rows, ring, Path(sys.argv[3]))
print("RESULT" + json.dumps(got, sort_keys=True))
"""


@pytest.mark.slow
def test_two_ranks_find_what_one_finds(tiny_model, tmp_path, run_ranks):
    file = write_rows(tmp_path / "r.jsonl", make_rows(5, seed=1, longest=4))
    found = []
    for size in (1, 2):
        folder = tmp_path / str(size)
        folder.mkdir()
        here = [str(Path(__file__).parent), *(str(REPOSITORY / "tests" / each) for each in (".", "support"))]
        ended = run_ranks(size, RANK, str(tiny_model), str(file), str(folder), *here)
        assert all(code == 0 for code, _ in ended), ended
        found += [output.partition("RESULT")[2] for _, output in ended]
        lines = [json.loads(line) for line in (folder / adapter_comparison.PREDICTIONS).read_text().splitlines()]
        found.append(
            [{key: line[key] for key in ("row_id", "prediction_before", "prediction_after")} for line in lines]
        )
    one, its_lines, *two, their_lines = found
    assert its_lines == their_lines

    def counts(text):
        got = json.loads(text)
        return {key: got[key] for key in KEYS}

    assert [counts(text) for text in two] == [counts(one)] * 2
