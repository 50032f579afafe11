"""Labels and texts of the tests of n-gram models."""

from hypothesis import strategies as st

from thunder.acoustic.decoding.ngram import SPACE

LABELS = (" ", "a", "b", "\u07eb")
TEXTS = st.lists(st.lists(st.integers(1, len(LABELS)), max_size=6), min_size=1, max_size=6)


def named(text) -> tuple[str, ...]:
    return tuple(SPACE if LABELS[label - 1] == " " else LABELS[label - 1] for label in text)
