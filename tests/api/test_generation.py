"""Answers from Python: the prompt of the adapter's training, in the order of the texts."""

from __future__ import annotations

import pytest

import thunder
from thunder.api.generation import generate_answers
from thunder.evaluation import cases, engine_setup
from thunder.evaluation.generation_settings import GenerationSettings

pytestmark = pytest.mark.expensive
TEXTS = ["ߊ߬ ߞߊ ߓߊ", "", "ߓߊ"]


def test_the_answers_are_those_of_an_evaluation(tiny_model):
    engine, _ = engine_setup.load_model_engines(str(tiny_model), None)
    asked = [cases.case_from_text(str(n), text, {}) for n, text in enumerate(TEXTS) if text]
    expected = [proposal.text for proposal in engine.propose(asked)]
    got = thunder.generate(TEXTS, model=str(tiny_model))
    assert [got[0], got[2]] == expected and got[1] == ""


def test_texts_are_read_as_they_are_answered(tiny_model):
    read = []

    def texts():
        for number in range(40):
            read.append(number)
            yield TEXTS[0]

    settings = GenerationSettings(model=str(tiny_model), batch_size=1)
    answers = generate_answers(texts(), settings)
    next(answers)
    assert len(read) < 40


def test_a_raw_prompt_has_no_instruction(tiny_model):
    asked = cases.case_from_prompt("0", "ߊ߬", "ߛߓߍ", raw=True)
    assert [message["content"] for message in asked.messages] == ["ߛߓߍ", "ߊ߬"]
    assert len(thunder.generate(["ߊ߬"], model=str(tiny_model), raw_prompt=True, system_prompt="ߛߓߍ")) == 1
