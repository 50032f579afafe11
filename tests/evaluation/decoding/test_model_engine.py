"""Batched greedy answers: the same texts as one row at a time, whatever the batch, the windows and the caches."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from conftest import make_rows, write_rows
from mlx_lm.generate import generate_step
from prompt_formats import with_stops

from thunder.corpora.rows import chat_rows
from thunder.errors import ModelError
from thunder.evaluation import cases
from thunder.evaluation.decoding import greedy
from thunder.evaluation.decoding.model_engine import ModelEngine
from thunder.evaluation.decoding.scoring import score_answers
from thunder.lora import adapter_files, adapters, base_model
from thunder.lora.lora_settings import LoraSettings
from thunder.lora.prompts.load_prompts import load_prompt_format
from thunder.lora.prompts.prompt_words import PromptWords
from thunder.text.chat import correction_messages

pytestmark = pytest.mark.expensive

COUNT = 14


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return base_model.load_base_model(tiny_model), load_prompt_format(tiny_model)


@pytest.fixture(scope="module")
def some_cases(tmp_path_factory):
    """Prompts from far below to far above the sliding window of 16 tokens."""
    path = write_rows(tmp_path_factory.mktemp("rows") / "r.jsonl", make_rows(COUNT, seed=5, longest=11))
    return [cases.case_from_row(row, place) for place, row in enumerate(chat_rows.read_rows(path).rows)]


def one_by_one(loaded, case):
    """Text and mean log-probability by mlx_lm's own loop over one prompt."""
    language_model, prompts = loaded
    engine = ModelEngine(*loaded)
    tokenizer, stops = prompts.tokenizer, prompts.stops
    prompt = tokenizer.apply_chat_template(list(case.messages), add_generation_prompt=True, return_dict=False)
    tokens, logprobs = [], []
    for token, row in generate_step(mx.array(prompt), language_model, max_tokens=engine.token_limit(case.input)):
        logprobs.append(row[int(token)].item())
        if int(token) in stops:
            break
        tokens.append(int(token))
    return tokenizer.decode(tokens, skip_special_tokens=True), float(np.mean(logprobs))


@pytest.fixture(scope="module")
def wanted(loaded, some_cases):
    return [one_by_one(loaded, case) for case in some_cases]


@pytest.mark.parametrize("batch_size", [3, 16])
def test_the_texts_are_those_of_one_row_at_a_time(loaded, some_cases, wanted, batch_size):
    got = list(ModelEngine(*loaded, batch_size=batch_size).propose(some_cases))
    assert len({text for text, _ in wanted}) > COUNT / 2  # else it would show little
    assert [proposal.text for proposal in got] == [text for text, _ in wanted]
    np.testing.assert_allclose([proposal.confidence for proposal in got], [mean for _, mean in wanted], atol=1e-4)


@pytest.mark.parametrize("most", [1, 20, 60])
def test_few_places_at_once_change_nothing(loaded, some_cases, wanted, most):
    engine = ModelEngine(*loaded, batch_size=6, margins=True)
    engine.prefix.positions_per_pass = most
    assert [proposal.text for proposal in engine.propose(some_cases)] == [text for text, _ in wanted]


def test_gemma3n_many_rows_at_once_and_what_it_is_sure_of(tiny_gemma3n, some_cases):
    """Its keys and values are shared through caches alone, which scoring a whole row has to have too."""
    shipped = base_model.load_base_model(tiny_gemma3n), load_prompt_format(tiny_gemma3n)
    engine = ModelEngine(*shipped, batch_size=5)
    alone = [one_by_one(shipped, case) for case in some_cases]
    got = list(engine.propose(some_cases))
    assert [proposal.text for proposal in got] == [text for text, _ in alone]
    np.testing.assert_allclose([proposal.confidence for proposal in got], [mean for _, mean in alone], atol=1e-4)
    asked = [{"role": "user", "content": "ߊ߬"}]
    prompt = shipped[1].tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    steps = [
        (int(token), row[int(token)].item())
        for token, row in generate_step(mx.array(prompt), shipped[0], max_tokens=24)
    ]  # past the sliding window of 12
    answers = [[token for token, _ in steps]]
    [found] = score_answers(engine.prefix, [prompt], answers, engine.prefix.covered_lengths([prompt]), 1)
    assert found == pytest.approx(sum(logprob for _, logprob in steps), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_shipped_model_on_rows_of_all_lengths(batch_size):
    """Also prompts of several hundred tokens: its sliding window is 64."""
    base = base_model.find_base_model(None)
    shipped = base_model.load_base_model(base), load_prompt_format(base)
    texts = [" ".join(row["messages"][1]["content"] for row in make_rows(1 + n % 7, seed=n)) for n in range(24)]
    rows = [chat_rows.ChatRow(tuple(correction_messages(text, text)), "f:1", str(n)) for n, text in enumerate(texts)]
    some = [cases.case_from_row(row, n) for n, row in enumerate(rows)]
    got = [proposal.text for proposal in ModelEngine(*shipped, batch_size=batch_size).propose(some)]
    assert got == [one_by_one(shipped, case)[0] for case in some]


def test_answers_come_in_the_order_of_the_rows_and_are_all_reported(loaded, some_cases, wanted):
    told = []
    backwards = list(ModelEngine(*loaded, batch_size=4).propose(some_cases[::-1], told.append))
    assert [proposal.text for proposal in backwards] == [text for text, _ in wanted[::-1]]
    assert sum(told) == COUNT


def test_an_answer_ends_at_its_limit_or_at_a_stop(loaded, some_cases):
    language_model, prompts = loaded
    for proposal, case in zip(ModelEngine(*loaded).propose(some_cases), some_cases, strict=True):
        limit = 2 * len(prompts.tokenizer.encode(case.input, add_special_tokens=False)) + 32
        assert proposal.finished or proposal.tokens == limit
    everything = set(range(len(prompts.tokenizer)))
    at_once = list(ModelEngine(language_model, with_stops(prompts, everything)).propose(some_cases[:3]))
    assert [(p.text, p.tokens, p.finished, p.special_only) for p in at_once] == [("", 1, True, False)] * 3


def test_pads_only_are_seen(loaded, some_cases, monkeypatch):
    engine = ModelEngine(*loaded)
    monkeypatch.setattr(greedy, "decode_greedily", lambda *_: [a_pad()])
    [proposal] = engine.propose(some_cases[:1])
    assert proposal.special_only and proposal.text == "" and not proposal.finished


def a_pad():
    answer = greedy.DecodedAnswer()
    answer.add(0, -0.5, "length")
    return answer


def test_stopping_in_between_leaves_the_adapter_on(loaded, some_cases, adapted):
    language_model, *rest = adapted

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(ModelEngine(language_model, *rest, base_only=True).propose(some_cases, stop))
    assert any(mx.any(layer_b != 0).item() for layer_b in adapters.disable_adapter(language_model).values())


@pytest.fixture
def adapted(tiny_model, tmp_path):
    """A model under an adapter that was written and read again, and what else an engine needs."""
    language_model, folder = noisy_adapter(tiny_model, tmp_path / "adapter")
    fresh = base_model.load_base_model(tiny_model)
    assert adapters.attach_adapter(fresh, folder)
    return fresh, load_prompt_format(tiny_model)


def noisy_adapter(tiny_model, folder, base_sha256=None):
    language_model, options = base_model.load_base_model(tiny_model), LoraSettings(num_layers=2, lora_rank=2)
    layers = adapters.add_lora(language_model, options)
    kept = adapters.disable_adapter(language_model)
    mx.random.seed(3)
    noise = {name: mx.random.normal(array.shape) * 0.3 for name, array in kept.items()}
    adapters.enable_adapter(language_model, noise)
    ours = {"model": "tiny", "base_sha256": base_sha256 or base_model.base_digest(tiny_model)}
    adapters.save_adapter(folder, language_model, options, layers, ours)
    return language_model, folder


def test_the_base_under_an_adapter_is_the_base(adapted, some_cases, wanted):
    base = [proposal.text for proposal in ModelEngine(*adapted, base_only=True).propose(some_cases)]
    with_adapter = [proposal.text for proposal in ModelEngine(*adapted).propose(some_cases)]
    assert base == [text for text, _ in wanted]
    assert with_adapter != base


def test_windows_are_the_answers_to_the_pieces(loaded, some_cases):
    case = max(some_cases, key=lambda case: len(case.input.split()))
    engine = ModelEngine(*loaded, chunk_words=3)
    [proposal] = engine.propose([case])
    words = case.input.split()
    pieces = [" ".join(words[start : start + 3]) for start in range(0, len(words), 3)]
    question = case.messages[0]["content"]
    asked = [({"role": "user", "content": question.replace(case.input, piece)},) for piece in pieces]
    alone = [cases.Case(0, "p", piece, "", messages) for piece, messages in zip(pieces, asked, strict=True)]
    assert proposal.windows == len(pieces) > 2
    assert proposal.text == " ".join(one_by_one(loaded, each)[0].strip() for each in alone)


def test_an_adapter_of_another_base_is_refused_by_name(tiny_model, tmp_path):
    _, folder = noisy_adapter(tiny_model, tmp_path / "adapter", base_sha256="0" * 64)
    with pytest.raises(ModelError, match="an adapter of another base: trained on tiny .*0000"):
        adapter_files.check_adapter_base(folder, base_model.base_digest(tiny_model), tiny_model)


@pytest.mark.parametrize("change, fault", [
    ({"num_layers": 1}, "tensors differ"), ({"fine_tune_type": "dora"}, "fine_tune_type is dora"),
    ({"lora_parameters": {"rank": 3, "scale": 1.0, "dropout": 0.0}}, "tensors differ"),
    ({"lora_parameters": {"rank": 2}}, "missing required key 'scale'"),
])  # fmt: skip
def test_an_adapter_that_does_not_fit_is_refused(tiny_model, tmp_path, change, fault):
    _, folder = noisy_adapter(tiny_model, tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match=fault):
        adapters.attach_adapter(base_model.load_base_model(tiny_model), folder)


def test_an_adapter_of_no_numbers_is_refused_and_an_empty_one_seen(tiny_model, tmp_path):
    _, folder = noisy_adapter(tiny_model, tmp_path / "adapter")
    weights = mx.load(str(folder / "adapters.safetensors"))
    mx.eval(weights)  # else they would be read when the file is another one
    zero = {name: mx.zeros_like(array) if name.endswith("lora_b") else array for name, array in weights.items()}
    mx.save_safetensors(str(folder / "adapters.safetensors"), zero)
    assert adapters.attach_adapter(base_model.load_base_model(tiny_model), folder) is False
    name = next(iter(weights))
    mx.save_safetensors(str(folder / "adapters.safetensors"), weights | {name: weights[name] * float("nan")})
    with pytest.raises(ModelError, match="1 tensors hold infinities"):
        adapters.attach_adapter(base_model.load_base_model(tiny_model), folder)


def often(prompts):
    """Answers of a random model seldom come to an end by themselves."""
    return with_stops(prompts, prompts.stops | set(range(3, 320, 7)))


def told(engine, some_cases):
    return list(engine.propose(some_cases))


def same_but_for_rounding(ones, others):
    for one, other in zip(ones, others, strict=True):
        assert (one.text, one.tokens, one.finished) == (other.text, other.tokens, other.finished)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)
        assert one.margin == pytest.approx(other.margin, abs=1e-5)


@pytest.mark.parametrize(
    "how", [{}, {"chunk_words": 3}, {"margins": True}, {"min_margin": 0.02}, {"change_margin": 0.0, "chunk_words": 4}]
)
def test_with_and_without_a_prefix(loaded, some_cases, how):
    """Some rows with a system prompt that is longer than the sliding window, and one that has nothing in common."""
    system = {"role": "system", "content": "ߞߊ߬ ߕߊ߯ ߛߏ " * 12}
    cases_ = [
        replace(case, messages=(system, *case.messages)) if place % 3 else case for place, case in enumerate(some_cases)
    ]
    language_model, prompts = loaded
    engine, plain = (ModelEngine(language_model, often(prompts), 4, prefix_cache=on, **how) for on in (True, False))
    same_but_for_rounding(told(engine, cases_), told(plain, cases_))
    assert len(engine.prefix.tokens) > 16 and not plain.prefix.tokens
    assert engine.describe()["prefix_cache"] == "on" and plain.describe()["prefix_cache"] == "off"
    same_but_for_rounding(told(engine, cases_[:1]), told(plain, cases_[:1]))


def test_an_adapter_switched_off_and_on_between_calls(adapted, some_cases):
    """One engine of each on the same model, by turns, and one below which the adapter is switched by others."""
    language_model, prompts = adapted
    adapted_engine, base, plain, plain_base = (
        ModelEngine(language_model, often(prompts), base_only=only, margins=True, prefix_cache=on)
        for on in (True, False)
        for only in (False, True)
    )
    with_adapter, without = told(plain, some_cases), told(plain_base, some_cases)
    for _ in range(2):
        same_but_for_rounding(told(adapted_engine, some_cases), with_adapter)
        same_but_for_rounding(told(base, some_cases), without)
    read = adapted_engine.prefix._caches, base.prefix._caches
    told(adapted_engine, some_cases), told(base, some_cases)
    assert (adapted_engine.prefix._caches, base.prefix._caches) == read  # neither has to read it again
    kept = adapters.disable_adapter(language_model)
    same_but_for_rounding(told(adapted_engine, some_cases), without)
    adapters.enable_adapter(language_model, kept)
    same_but_for_rounding(told(adapted_engine, some_cases), with_adapter)


def test_a_warm_engine_has_read_what_all_prompts_begin_with(loaded, some_cases):
    engine = ModelEngine(*loaded)
    engine.cache_shared_prefix([case_of(text) for text in ("ߊ", "ߓ")])
    read = engine.prefix.tokens
    prompts = [engine.prompts.prompt(case.messages).ids for case in map(case_of, ("ߞߊ߬ ߕߊ߯", "ߛߏ ߞߊ߬", "ߡߎ߰ߛߏ"))]
    assert all(prompt[: len(read)] == read for prompt in prompts) and len(read) > 4
    told(engine, [case_of("ߞߊ߬ ߕߊ߯")])
    assert engine.prefix.tokens is read


def case_of(text):
    return cases.case_from_row(chat_rows.ChatRow(tuple(correction_messages(text, text)), "f:1", "r"), 0)


def test_a_text_alone_is_asked_in_the_words_of_the_training(loaded, some_cases):
    language_model, prompts = loaded
    other = copy.copy(prompts)
    other.words = PromptWords("ߛߓߍ:\n", "ߞߊ߬")
    texts = [cases.case_from_text(case.row_id, case.input, {}) for case in some_cases[:3]]
    asked = [replace(case, messages=other.words.messages(case.input), from_text=False) for case in texts]
    answers = [[each.text for each in ModelEngine(language_model, other).propose(rows)] for rows in (texts, asked)]
    assert answers[0] == answers[1]
    assert answers[0] != [each.text for each in ModelEngine(*loaded).propose(texts)]


def test_the_tools_of_a_row_are_in_its_prompt(loaded, some_cases):
    language_model, prompts = loaded
    asked = []

    class Recorded:
        def __getattr__(self, name):
            return getattr(prompts, name)

        def prompt(self, messages, tools=None):
            asked.append(tools)
            return prompts.prompt(messages, tools)

    rows = [replace(case, fields={"tools": [{"name": case.row_id}]} if place else {}) for place, case in
            enumerate(some_cases[:3])]  # fmt: skip
    list(ModelEngine(language_model, Recorded()).propose(rows))
    assert asked == [None, *([{"name": case.row_id}] for case in rows[1:])]
