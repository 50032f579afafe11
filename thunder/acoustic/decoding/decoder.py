"""Build a decoder from its options: greedy or beam search, optionally with an n-gram and N'Ko spelling rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import model_validator

from thunder.acoustic.decoding import arpa
from thunder.acoustic.decoding.beam_search import greedy_decode, prefix_beam_search
from thunder.acoustic.decoding.label_graph import Arcs, LabelGraph
from thunder.config import Settings, option
from thunder.errors import ConfigError
from thunder.text.alphabet import NKO, Alphabet
from thunder.text.spelling import START_STATE, SpellingState, advance_state, may_end_word

DECODING = "Decoding"


class DecodingSettings(Settings):
    """Options of decoding, for every command that writes recognized text."""

    decoder: Literal["greedy", "beam"] = option(
        "greedy", "greedy: the best output of each frame; beam: prefix beam search.", panel=DECODING
    )
    beam: int = option(16, "Prefixes that the beam keeps at each frame.", panel=DECODING, ge=1, le=1000)
    ngram: str | None = option(
        None, "ARPA file of `thunder asr ngram`, the language model of the beam.", aliases=["lm"], panel=DECODING
    )
    lm_weight: float = option(0.5, "Weight of the n-gram's log probabilities.", panel=DECODING, gt=0)
    insertion_bonus: float = option(
        0.0, "Score added for each character (nats); a larger value gives longer texts.", panel=DECODING
    )
    nko_spelling: bool = option(
        False, "Forbid N'Ko in the beam that breaks the script's rules (a mark on a mark, stray dots).", panel=DECODING
    )

    @model_validator(mode="after")
    def _beam_options_need_beam(self) -> DecodingSettings:
        if self.decoder == "greedy" and (self.ngram or self.nko_spelling or self.insertion_bonus):
            raise ValueError("'ngram', 'nko_spelling' and 'insertion_bonus' need the beam: give --decoder beam")
        return self


def build_decoder(settings: DecodingSettings, alphabet: Alphabet) -> Callable[[np.ndarray], Sequence[int]]:
    """A function from log probabilities [T, V] over the alphabet's outputs to label ids.

    Raises ArtifactError for a malformed n-gram, ModelError for an n-gram of another script, and ConfigError if N'Ko
    spelling is requested for another script.
    """
    if settings.decoder == "greedy":
        return greedy_decode
    model = (
        arpa.read_arpa(Path(settings.ngram).expanduser()).as_label_graph(alphabet.labels) if settings.ngram else None
    )
    allowed = spelling_graph(alphabet) if settings.nko_spelling else None

    def beam_decode(log_probs: np.ndarray) -> Sequence[int]:
        hypotheses = prefix_beam_search(
            log_probs,
            beam=settings.beam,
            language_model=model,
            lm_weight=settings.lm_weight,
            insertion_bonus=settings.insertion_bonus,
            allowed=allowed,
        )
        return hypotheses[0].labels if hypotheses else []

    return beam_decode


def spelling_graph(alphabet: Alphabet = NKO) -> LabelGraph:
    """The spelling rules of N'Ko as a graph over the alphabet's labels: weight 0 for each allowed label."""
    if alphabet is not NKO:
        raise ConfigError(
            f"'nko_spelling' needs N'Ko labels, but the labels are {alphabet.name}", fix="omit --nko-spelling"
        )

    def arcs(state: SpellingState) -> Arcs:
        next_states = [advance_state(state, label) for label in alphabet.labels]
        weights = np.array([-np.inf, *(-np.inf if next_state is None else 0.0 for next_state in next_states)])
        return weights, [state, *(next_state or state for next_state in next_states)]

    return LabelGraph(alphabet.size, START_STATE, arcs, lambda state: 0.0 if may_end_word(state) else -np.inf)
