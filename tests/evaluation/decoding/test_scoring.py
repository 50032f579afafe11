"""The probability of leaving a text alone, and answers that are kept only where they are likelier."""

import copy
import math

import mlx.core as mx
import pytest
from chat_templates import FAMILIES
from conftest import make_rows, write_rows
from hypothesis import given
from hypothesis import strategies as st
from prompt_formats import with_stops

from thunder.evaluation import cases
from thunder.evaluation.decoding import word_changes
from thunder.evaluation.decoding.model_engine import ModelEngine
from thunder.evaluation.decoding.prompt_prefix import PromptPrefix
from thunder.evaluation.decoding.scoring import bucket_by_length as made_of
from thunder.evaluation.decoding.scoring import score_answers
from thunder.lora import base_model
from thunder.lora.prompts.load_prompts import load_prompt_format
from thunder.lora.prompts.prompt_format import PromptFormat
from thunder.text.distance import edit_distance

pytestmark = pytest.mark.expensive


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return base_model.load_base_model(tiny_model), load_prompt_format(tiny_model)


def one_by_one(net, prompt, answer):
    """Token after token, in float64 from there on."""
    total = 0.0
    for place in range(len(answer)):
        logits = net(mx.array([prompt + answer[:place]]))[0, -1].tolist()
        most = max(logits)
        total += logits[answer[place]] - most - math.log(sum(math.exp(each - most) for each in logits))
    return total


def test_equal_to_one_token_after_another(loaded):
    net, _ = loaded
    prompts, answers = [[2, 5, 9, 11], [2, 7], [2, 5, 5, 5, 5, 5]], [[12, 13, 1], [30, 1], [14]]
    prefix = PromptPrefix(net)
    found = score_answers(prefix, prompts, answers, prefix.covered_lengths(prompts), batch_size=2)
    for got, prompt, answer in zip(found, prompts, answers, strict=True):
        assert got == pytest.approx(one_by_one(net, prompt, answer), abs=1e-4)


def proposals(loaded, rows, margin, chunk_words=0, **how):
    net, prompts = loaded
    engine = ModelEngine(net, prompts, 4, chunk_words, min_margin=margin, **how)
    return list(engine.propose(rows))


@pytest.fixture
def rows(tmp_path):
    return cases.read_cases(write_rows(tmp_path / "rows.jsonl", make_rows(12, seed=7)), 0).cases


@pytest.mark.parametrize("chunk_words", [0, 2])
def test_changes_that_no_margin_passes_are_not_made(loaded, rows, chunk_words):
    inputs = [row.input for row in rows]
    assert [each.text for each in proposals(loaded, rows, None, chunk_words, change_margin=1e9)] == inputs


def test_all_changes_of_an_answer_make_the_answer(loaded, rows):
    plain = proposals(loaded, rows, None)
    made = proposals(loaded, rows, None, change_margin=-1e9)
    assert any(each.finished for each in plain)
    for row, before, after in zip(rows, plain, made, strict=True):
        assert after.text.split() == (before.text if before.finished else row.input).split()


def test_only_small_changes_are_made_on_request(loaded, rows):
    whole = proposals(loaded, rows, None, change_margin=-1e9)
    small = proposals(loaded, rows, None, change_margin=-1e9, change_edits=3)
    for row, every, few in zip(rows, whole, small, strict=True):
        words = row.input.split()
        wanted = [
            change
            for change in word_changes.find_changes(row.input, every.text)
            if edit_distance(" ".join(words[change.start : change.end]), " ".join(change.words)) <= 3
        ]
        assert few.text == word_changes.apply_changes(row.input, wanted, range(len(wanted)))


@pytest.mark.parametrize("chunk_words", [0, 2])
def test_a_margin_out_of_reach_leaves_every_text_alone(loaded, tmp_path, chunk_words):
    rows = cases.read_cases(write_rows(tmp_path / "rows.jsonl", make_rows(6, seed=5)), 0).cases
    inputs = [row.input for row in rows]
    assert [each.text for each in proposals(loaded, rows, 1e9, chunk_words)] == inputs
    assert [each.text for each in proposals(loaded, rows, None, chunk_words)] != inputs


def test_a_margin_that_all_pass_keeps_answers_that_came_to_an_end(loaded, tmp_path):
    rows = cases.read_cases(write_rows(tmp_path / "rows.jsonl", make_rows(12, seed=6)), 0).cases
    plain, kept = proposals(loaded, rows, None), proposals(loaded, rows, -1e9)
    for row, before, after in zip(rows, plain, kept, strict=True):
        assert after.text == (before.text if before.finished else row.input)


def test_proposals_say_how_much_likelier_they_are(loaded, tmp_path):
    net, prompts = loaded
    rows = cases.read_cases(write_rows(tmp_path / "rows.jsonl", make_rows(10, seed=7)), 0).cases
    engine = ModelEngine(net, prompts, 4, margins=True)
    told, plain = list(engine.propose(rows)), proposals(loaded, rows, None)
    assert [each.text for each in told] == [each.text for each in plain]
    assert all(each.margin is None for each in plain)
    assert any(each.finished for each in told)
    assert [each.margin is None for each in told] == [not each.finished for each in told]
    for row, each in zip(rows, told, strict=True):
        if each.finished:
            tokenizer = prompts.tokenizer
            prompt = tokenizer.apply_chat_template(list(row.messages), add_generation_prompt=True, return_dict=False)
            alone = [*tokenizer.encode(row.input, add_special_tokens=False), tokenizer.convert_tokens_to_ids("<turn|>")]
            wanted = (each.confidence * each.tokens - one_by_one(net, prompt, alone)) / len(row.input)
            assert each.margin == pytest.approx(wanted, abs=1e-3)


def test_the_margin_of_pieces_is_that_of_all_of_them(loaded, tmp_path):
    net, prompts = loaded
    rows = cases.read_cases(write_rows(tmp_path / "rows.jsonl", make_rows(6, seed=7)), 0).cases
    # answers of a random model seldom come to an end by themselves
    often = with_stops(prompts, prompts.stops | set(range(3, 320, 4)))
    told = list(ModelEngine(net, often, 4, 2, margins=True).propose(rows))
    assert any(each.windows > 1 and each.margin is not None for each in told)
    assert [each.margin is None for each in told] == [not each.finished for each in told]


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 8), st.integers(1, 120))
def test_a_batch_has_no_more_places_than_are_allowed_or_one_row(sizes, batch_size, most):
    made = list(made_of(sizes, batch_size, most))
    assert sorted(place for batch in made for place in batch) == list(range(len(sizes)))
    for batch in made:
        assert len(batch) == 1 or len(batch) * max(sizes[place] for place in batch) <= most
        assert 1 <= len(batch) <= batch_size


def test_margins_of_answers_after_an_empty_thought_are_of_whole_texts(loaded, rows):
    """A generation prompt that ends in an empty thought channel: no answer loses its beginning."""
    net, prompts = loaded
    tokenizer = copy.deepcopy(prompts.tokenizer)
    tokenizer.chat_template = FAMILIES["gemma4"][0]
    thinking = PromptFormat(tokenizer, prompts.stops)
    inputs = [row.input for row in rows]
    for row in rows:
        assert thinking.decode(thinking.answer(thinking.prompt(row.messages), row.input)[:-1]) == row.input.strip()
    for how in ({"min_margin": 1e9}, {"change_margin": 1e9}):
        assert [each.text for each in ModelEngine(net, thinking, 4, **how).propose(rows)] == inputs
    often = with_stops(thinking, thinking.stops | set(range(3, 320, 4)))
    told = list(ModelEngine(net, often, 4, margins=True).propose(rows))
    for row, each in zip(rows, told, strict=True):
        if each.finished:
            prompt = thinking.prompt(row.messages)
            answer = often.answer(prompt, row.input)
            expected = (each.confidence * each.tokens - one_by_one(net, prompt.ids, answer)) / len(row.input)
            assert each.margin == pytest.approx(expected, abs=1e-3)
    assert any(each.finished for each in told)
