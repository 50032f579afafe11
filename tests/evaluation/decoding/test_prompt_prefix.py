"""What prompts begin with, read once: the same answers and probabilities as without, whatever the model and prompts."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_map
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import make_prompt_cache
from random_models import KINDS, VOCABULARY, random_model

from thunder.evaluation.decoding import greedy
from thunder.evaluation.decoding.prompt_prefix import LONGEST_PREFIX, SHORTEST_PREFIX, PromptPrefix, best_prefix
from thunder.evaluation.decoding.scoring import ScoredAnswers, score_answers
from thunder.evaluation.engines import ignore_progress

pytestmark = pytest.mark.expensive

STOPS = {1, *range(3, VOCABULARY, 9)}
LIMIT = 9
UNLIKE = "lfm2"


@pytest.fixture(scope="module", params=[*KINDS, UNLIKE])
def model(request):
    KNOWN.clear()  # by the id of a model that may be gone
    return random_model(request.param)


def tokens(count, seed):
    return np.random.default_rng(seed).integers(1, VOCABULARY, count).tolist()


SHARED, OTHER = tokens(50, 0), tokens(11, 1)
PROMPTS = {
    "all begin alike": [SHARED + tokens(3 + seed, seed) for seed in range(7)],
    "begin alike for less than a window": [SHARED[:6] + tokens(1 + 5 * seed, seed) for seed in range(4)],
    "some begin otherwise": [SHARED + [5], [7], SHARED + [5, 6, 7], OTHER, OTHER + [9], tokens(30, 2), SHARED + [8]],
    "nothing in common": [[seed, *tokens(4 * seed, seed)] for seed in range(10, 14)],
    "one begins the other": [SHARED[:12], SHARED, SHARED[:4], SHARED[:30], SHARED + [9, 9], SHARED[:1]],
    "all the same": [SHARED[:20]] * 4,
    "one": [SHARED],
}


KNOWN = {}


def one_by_one(model, prompt):
    """Tokens, log-probabilities and whether a stop came, by mlx_lm's own loop over one prompt."""
    key = id(model), tuple(prompt)
    if key not in KNOWN:
        KNOWN[key] = generated(model, prompt)
    return KNOWN[key]


def generated(model, prompt):
    found, logprobs = [], []
    for token, row in generate_step(mx.array(prompt), model, max_tokens=LIMIT):
        logprobs.append(row[int(token)].item())
        if int(token) in STOPS:
            return found, logprobs, True
        found.append(int(token))
    return found, logprobs, False


def check(model, prefix, prompts, batch_size=3, draft=lambda place, answer: []):
    """draft: from a prompt's place and its answer what to try instead of going token by token."""
    wanted = [one_by_one(model, prompt) for prompt in prompts]
    drafts = [[*draft(place, tokens), 1] for place, (tokens, _, _) in enumerate(wanted)]
    covered, count = prefix.covered_lengths(prompts), len(prompts)
    told = []
    asked = greedy.DecodeRequest(prompts, covered, [LIMIT] * count, [place // 2 for place in range(count)], drafts)
    got = greedy.decode_greedily(prefix, asked, STOPS, batch_size, told.append)
    assert sum(told) == (count + 1) // 2
    for answer, (found, logprobs, stopped) in zip(got, wanted, strict=True):
        assert (answer.tokens, answer.stopped) == (found, stopped)
        np.testing.assert_allclose(answer.logprobs, logprobs, atol=1e-6)
    if prefix.can_fork:
        each = [alone(model, prompt, draft) for prompt, draft in zip(prompts, drafts, strict=True)]
        np.testing.assert_allclose([answer.draft_logprob for answer in got], each, atol=1e-5)


DRAFTS = {
    "right": lambda place, answer: answer,
    "right for a while": lambda place, answer: [*answer[: 3 * place % 7], 2, 4, 2],
    "wrong": lambda place, answer: [2] * (place + 1),
    "too long": lambda place, answer: [*answer, 2, 2, 2, 2, 2],
}


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("name", ["begin alike for less than a window", "some begin otherwise"])
def test_drafts_do_not_change_answers(model, name, draft):
    check(model, PromptPrefix(model), PROMPTS[name], batch_size=3, draft=DRAFTS[draft])


@pytest.mark.parametrize("prompts", PROMPTS)
def test_answers_are_those_of_one_prompt_at_a_time(model, prompts):
    prefix = PromptPrefix(model)
    if prefix.can_fork and (beginning := best_prefix(PROMPTS[prompts])):
        prefix.cache_prefix(beginning)
    check(model, prefix, PROMPTS[prompts])


def test_what_is_kept_serves_all_later_calls_and_stays_as_it_is(model):
    prefix = PromptPrefix(model)
    prefix.covered_lengths(PROMPTS["all begin alike"])
    assert prefix.tokens == (SHARED if prefix.can_fork else [])
    before = [np.array(each) for cache in prefix._caches for each in (cache.keys, cache.values)]
    for name in ("all begin alike", "one", "some begin otherwise", "begin alike for less than a window"):
        check(model, prefix, PROMPTS[name], batch_size=2)
    ScoredAnswers(prefix, [SHARED + [5]], [[6, 7]], prefix.covered_lengths([SHARED + [5]])).score_alternatives(
        [0], [[6, 8]], 4
    )
    assert prefix.tokens == (SHARED if prefix.can_fork else [])
    after = [np.array(each) for cache in prefix._caches for each in (cache.keys, cache.values)]
    assert all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))


def alone(model, prompt, answer):
    """Log-probability of an answer by one pass of its own."""
    row = [*prompt, *answer]
    logits = np.array(model(mx.array([row[:-1]]), cache=make_prompt_cache(model))[0], np.float64)
    logprobs = (
        logits
        - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - logits.max(-1, keepdims=True)
    )
    return sum(logprobs[place, row[place + 1]] for place in range(len(prompt) - 1, len(row) - 1))


ANSWERS = st.lists(st.integers(1, 4), min_size=1, max_size=14)


@settings(max_examples=5)
@given(
    st.sampled_from(sorted(PROMPTS)),
    st.lists(ANSWERS, min_size=7, max_size=7),
    st.lists(st.tuples(st.integers(0, 6), ANSWERS), max_size=6),
    st.booleans(),
)
def test_probabilities_are_those_of_a_pass_for_each(model, name, own, others, wanted):
    """Others share nothing with the answer that was read, or all of it, or its beginning: of four tokens, any."""
    prompts, prefix = PROMPTS[name], PromptPrefix(model, wanted)
    if prefix.can_fork:
        prefix.cache_prefix(SHARED)
    own = own[: len(prompts)]
    scored = ScoredAnswers(prefix, prompts, own, prefix.covered_lengths(prompts))
    np.testing.assert_allclose(
        scored.totals, [alone(model, *each) for each in zip(prompts, own, strict=True)], atol=1e-5
    )
    rows = [row % len(prompts) for row, _ in others]
    answers = [own[row] if len(answer) == 7 else answer for row, (_, answer) in zip(rows, others, strict=True)]
    found = scored.score_alternatives(rows, answers, 2)
    wanted = [alone(model, prompts[row], answer) for row, answer in zip(rows, answers, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    in_batches = score_answers(prefix, prompts, own, prefix.covered_lengths(prompts), 2)
    np.testing.assert_allclose(in_batches, scored.totals, atol=1e-5)


def saving(prompts, beginning):
    return (sum(prompt[: len(beginning)] == beginning for prompt in prompts) - 1) * len(beginning)


@settings(max_examples=200)
@given(st.lists(st.lists(st.integers(1, 2), min_size=1, max_size=9), min_size=1, max_size=9))
def test_the_beginning_that_saves_most_is_found(prompts):
    every = {tuple(prompt[:length]) for prompt in prompts for length in range(SHORTEST_PREFIX, len(prompt) + 1)}
    most = max((saving(prompts, list(each)) for each in every), default=0)
    found = best_prefix(prompts)
    assert (saving(prompts, found) if found else 0) == most


@settings(max_examples=100)
@given(st.lists(st.lists(st.integers(1, 2), min_size=1, max_size=12), min_size=1, max_size=6))
def test_a_token_is_left_of_each_prompt(prompts):
    prefix = PromptPrefix(LLAMA)
    prefix.cache_prefix([1, 2, 1, 1, 2])
    for prompt, covered in zip(prompts, prefix.covered_lengths(prompts), strict=True):
        assert covered <= min(len(prompt) - 1, len(prefix.tokens))
        assert prompt[:covered] == prefix.tokens[:covered]
        assert covered == 0 or covered >= SHORTEST_PREFIX


LLAMA = random_model("llama")


def test_a_pass_of_its_own_has_to_be_worth_it():
    """A service meets the same row twice now and then: that must not cost it a pass for each."""
    prefix = PromptPrefix(LLAMA)
    prefix.cache_prefix(SHARED[:20])
    assert prefix.covered_lengths([SHARED[:40], SHARED[:40], OTHER]) == [20, 20, 0] and prefix.tokens == SHARED[:20]
    assert prefix.covered_lengths([SHARED[:40]] * 9) == [39] * 9 and prefix.tokens == SHARED[:40]


def test_no_more_is_kept_than_is_read_in_one_pass():
    prompts = [[*range(1, 300)] * 8 + [end] for end in (1, 2)]
    assert best_prefix(prompts) == prompts[0][:LONGEST_PREFIX]


def test_models_whose_caches_cannot_be_forked_go_without_by_name():
    prefix = PromptPrefix(random_model(UNLIKE))
    assert prefix.state == "off: ArraysCache cannot be forked"
    assert prefix.covered_lengths(PROMPTS["all begin alike"]) == [0] * 7 and not prefix.tokens
    assert PromptPrefix(LLAMA).state == "on" and PromptPrefix(LLAMA, False).state == "off"


def test_other_weights_are_another_prefix():
    """Not only by an engine's own switch: whoever changes a weight."""
    KNOWN.clear()
    model = random_model("llama")
    prefix, prompts = PromptPrefix(model), PROMPTS["all begin alike"]
    check(model, prefix, prompts)
    kept = prefix._caches
    model.update(tree_map(lambda array: array + 0, model.parameters()))
    check(model, prefix, prompts)
    assert prefix._caches is kept
    old = model.model.layers[1].self_attn.k_proj.weight
    model.model.layers[1].self_attn.k_proj.weight = old * 1.5
    KNOWN.clear()
    check(model, prefix, prompts)
    assert prefix._caches is not kept
    model.model.layers[1].self_attn.k_proj.weight = old
    KNOWN.clear()
    check(model, prefix, prompts)


def test_memory_does_not_grow():
    """What a service does for hours: other prompts each time, now and then with another beginning."""
    prefix, sizes = PromptPrefix(LLAMA), []
    for turn in range(30):
        start = SHARED if turn % 3 else OTHER
        prompts = [start + tokens(3 + turn % 5, 10 * turn + seed) for seed in range(3)]
        asked = greedy.DecodeRequest(
            prompts, prefix.covered_lengths(prompts), [3] * 3, [0, 1, 2], [[4, 1], [2, 1], [5, 6, 1]]
        )
        greedy.decode_greedily(prefix, asked, STOPS, 3, ignore_progress)
        own = [[5, 6], [7], [8, 9, 10]]
        ScoredAnswers(prefix, prompts, own, prefix.covered_lengths(prompts)).score_alternatives(
            [0, 1], [[5], [7, 8]], 2
        )
        mx.synchronize()
        sizes.append(mx.get_active_memory())
    assert max(sizes[15:]) <= max(sizes[:15])
