"""Greedy decoding: the tokens of a plain argmax loop over whole sequences, up to a stop or a limit."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from random_models import VOCABULARY, random_model

from thunder.evaluation.decoding.greedy import DecodedAnswer, DecodeRequest, decode_greedily
from thunder.evaluation.decoding.prompt_prefix import PromptPrefix

LIMITS = [6, 1, 9]


@pytest.fixture(scope="module")
def model():
    return random_model("llama")


def argmax_loop(model, prompt, limit, stops):
    """Tokens, their log-probabilities and whether a stop came; each pass reads the whole sequence without a cache."""
    tokens, logprobs = [], []
    for _ in range(limit):
        logits = np.array(model(mx.array([prompt + tokens]))[0, -1].astype(mx.float32), dtype=np.float64)
        token = int(logits.argmax())
        logprobs.append(logits[token] - np.log(np.exp(logits - logits.max()).sum()) - logits.max())
        if token in stops:
            return tokens, logprobs, True
        tokens.append(token)
    return tokens, logprobs, False


def test_tokens_and_probabilities_are_those_of_an_argmax_loop(model):
    draw = np.random.default_rng(3)
    prompts = [draw.integers(1, VOCABULARY, count).tolist() for count in (5, 12, 3)]
    first, _, _ = argmax_loop(model, prompts[0], 3, set())
    stops = {first[2]}  # the third token of the first answer ends it
    prefix = PromptPrefix(model)
    request = DecodeRequest(prompts, prefix.covered_lengths(prompts), LIMITS, [0, 1, 1], [[first[2]]] * 3)
    finished = []
    answers = decode_greedily(prefix, request, stops, 2, finished.append)
    assert sum(finished) == 2
    for answer, prompt, limit in zip(answers, prompts, LIMITS, strict=True):
        tokens, logprobs, stopped = argmax_loop(model, prompt, limit, stops)
        assert (answer.tokens, answer.stopped) == (tokens, stopped)
        np.testing.assert_allclose(answer.logprobs, logprobs, atol=1e-5)
    assert answers[0].stopped and answers[0].tokens == first[:2]


def test_a_replacement_has_the_mean_probability_of_its_tokens():
    answer = DecodedAnswer()
    answer.add(4, -0.5, None)
    answer.add(9, -0.25, "stop")
    assert (answer.tokens, answer.logprobs, answer.stopped) == ([4], [-0.5, -0.25], True)
    answer.replace_with("text", [7, 8, 9], -3.0)
    assert (answer.tokens, answer.logprobs, answer.replacement) == ([7, 8], [-1.0, -1.0, -1.0], "text")
