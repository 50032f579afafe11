import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ngram_texts import LABELS, TEXTS, named

from thunder.acoustic.decoding.beam_search import prefix_beam_search
from thunder.acoustic.decoding.ngram import BEGIN, END, SPACE, estimate_ngram, measure_fit
from thunder.errors import ModelError, UsageError


class ByDefinition:
    """Witten-Bell by its recursion, over all substrings, in plain counters."""

    def __init__(self, texts, order: int) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.order = order
        for text in texts:
            said = (BEGIN, *named(text), END)
            spans = itertools.combinations(range(len(said) + 1), 2)
            self.counts.update(said[at:to] for at, to in spans if to - at <= order)
        self.words = [SPACE, "a", "b", "\u07eb", END]
        self.counts.pop((BEGIN,))

    def probability(self, word: str, history: tuple[str, ...]) -> float:
        history = history[len(history) - min(len(history), self.order - 1) :]
        lower = self.probability(word, history[1:]) if history else 1 / len(self.words)
        after = {one: self.counts[*history, one] for one in self.words}
        kinds = sum(count > 0 for count in after.values())
        if not kinds:
            return lower
        return (after[word] + kinds * lower) / (sum(after.values()) + kinds)


def walked(model, history: tuple[str, ...]) -> tuple[int, int]:
    context = (1, model.symbols.index(BEGIN)) if model.order > 1 else (0, 0)
    for symbol in history:
        context = model.next_contexts(context)[model.symbols.index(symbol)]
    return context


@given(TEXTS, st.integers(1, 4))
@settings(max_examples=25)
def test_every_probability_is_that_of_the_definition_and_they_sum_to_one(texts, order):
    model, wanted = estimate_ngram(LABELS, texts, order), ByDefinition(texts, order)
    for history in itertools.chain.from_iterable(itertools.product(wanted.words[:4], repeat=n) for n in range(4)):
        row = 10.0 ** model.log10_probs(walked(model, history))
        assert row.sum() == pytest.approx(1.0, abs=1e-12)
        found = {symbol: row[model.symbols.index(symbol)] for symbol in wanted.words}
        said = {word: wanted.probability(word, (BEGIN, *history)) for word in wanted.words}
        assert found == pytest.approx(said, abs=1e-12)


def test_a_text_is_weighed_by_all_of_its_characters_and_its_end():
    texts = [[2, 3, 1, 2], [2, 2], []]
    model, wanted = estimate_ngram(LABELS, texts, 3), ByDefinition(texts, 3)
    logs = []
    for text in [[2, 3], [4], []]:
        said = (BEGIN, *named(text), END)
        logs += [np.log10(wanted.probability(said[at], said[:at])) for at in range(1, len(said))]
    found = measure_fit(model, LABELS, [[2, 3], [4], []])
    assert (found.log10, found.symbols) == (pytest.approx(sum(logs)), 6)
    assert found.perplexity == pytest.approx(10 ** -np.mean(logs))


def test_as_a_graph_it_knows_labels_by_their_ids_and_moves_the_beam():
    model = estimate_ngram(LABELS, [[2, 3]] * 20, 3)
    graph, wanted = model.as_label_graph(LABELS), ByDefinition([[2, 3]] * 20, 3)
    assert graph.weights(np.zeros(1, int))[0, 2] == pytest.approx(np.log(wanted.probability("a", (BEGIN,))))
    assert graph.text_weight([2, 3]) == pytest.approx(measure_fit(model, LABELS, [[2, 3]]).log10 * np.log(10))
    # a and b are equally likely to the ear
    log_probs = np.log(np.array([[0.2, 0.1, 0.5, 0.1, 0.1], [0.1, 0.1, 0.4, 0.4, 0.0001]]))
    assert prefix_beam_search(log_probs)[0].labels != (2, 3)
    assert prefix_beam_search(log_probs, language_model=graph, lm_weight=1.0)[0].labels == (2, 3)


def test_without_a_label_it_says_which_one():
    model = estimate_ngram(LABELS, [[2]], 2)
    with pytest.raises(ModelError, match="'z'"):
        model.as_label_graph((*LABELS, "z"))


@pytest.mark.parametrize(
    ("texts", "order", "said"), [([[1]], 0, "order 0"), ([[1]], 40, "1 to 24"), ([], 2, "no text")]
)
def test_what_cannot_be_estimated_is_named(texts, order, said):
    with pytest.raises(UsageError) as caught:
        estimate_ngram(LABELS, texts, order)
    assert said in str(caught.value)
