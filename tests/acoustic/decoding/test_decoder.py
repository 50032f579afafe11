import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.acoustic.decoding import arpa
from thunder.acoustic.decoding.beam_search import greedy_decode, prefix_beam_search
from thunder.acoustic.decoding.decoder import DecodingSettings, build_decoder, spelling_graph
from thunder.acoustic.decoding.ngram import estimate_ngram
from thunder.config import SettingsLayer, build_settings
from thunder.errors import ConfigError, ModelError
from thunder.text.alphabet import LATIN, NKO
from thunder.text.spelling import is_valid_spelling


def outputs_of(text: str, seed: int, noise: float, alphabet=NKO) -> np.ndarray:
    """Log probabilities of a model that hears a text, two frames a letter and a blank, with noise."""
    path = [label for one in alphabet.encode(text) for label in (one, one, 0)]
    logits = np.random.default_rng(seed).normal(size=(len(path), alphabet.size)) * noise
    logits[range(len(path)), path] += 6.0
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


@given(st.integers(0, 10_000))
@settings(max_examples=25)
def test_under_the_spelling_rules_whatever_is_heard_is_spelled_right(seed):
    noise = np.random.default_rng(seed).normal(size=(25, NKO.size)) * 3
    found = prefix_beam_search(noise, beam=8, allowed=spelling_graph())
    assert found and all(is_valid_spelling(NKO.decode(one.labels)) == one.complete for one in found)
    assert not is_valid_spelling(NKO.decode(greedy_decode(noise)))


def test_the_graph_says_what_the_rules_say():
    graph = spelling_graph()
    for text in ("ߛߓߊ߬ ߓߟߏ", "ߓߟ", "߬ߊ", "߁߭", "ߓߊ߫߬", "ߒߠߊ߫"):
        assert (graph.text_weight(NKO.encode(text)) == 0.0) == is_valid_spelling(text)


def test_the_decoder_that_was_asked_for_is_the_one_that_comes(tmp_path):
    text = "ߊ߬ ߣߌ߫ ߛߐ߲߬ߜߐ߬ߡߊ߫"
    path = tmp_path / "x.arpa"
    arpa.write_arpa(path, estimate_ngram(NKO.labels, [NKO.encode(text)] * 30, 4))
    said = {"decoder": "beam", "ngram": str(path), "lm_weight": 0.8, "nko_spelling": True}
    chosen, _ = build_settings(DecodingSettings, [SettingsLayer("test", said)])
    heard = outputs_of(text, seed=3, noise=3.0)
    assert NKO.decode(build_decoder(DecodingSettings(), NKO)(heard)) != text
    assert NKO.decode(build_decoder(chosen, NKO)(heard)) == text


def test_what_does_not_fit_together_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="give --decoder beam"):
        build_settings(DecodingSettings, [SettingsLayer("test", {"ngram": "x.arpa"})])
    with pytest.raises(ConfigError, match="the labels are Latin"):
        build_decoder(DecodingSettings(decoder="beam", nko_spelling=True), LATIN)
    path = tmp_path / "latin.arpa"
    arpa.write_arpa(path, estimate_ngram(LATIN.labels, [LATIN.encode("a ni")], 2))
    with pytest.raises(ModelError, match="for the same script"):
        build_decoder(DecodingSettings(decoder="beam", ngram=str(path)), NKO)
