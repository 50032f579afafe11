"""Decode per-frame log probabilities: best path, and prefix beam search with a language model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thunder.acoustic.decoding.label_graph import LabelGraph
from thunder.errors import UsageError

ROOT = 0  # the node of the empty prefix


@dataclass(frozen=True)
class BeamHypothesis:
    """A label sequence and its scores, in nats.

    score: acoustic + lm_weight * lm + insertion_bonus * labels. acoustic: log of the summed probability of its paths in
    the beam. lm: of the whole text with its end; 0 without a language model. complete: whether the text may end here;
    False only if no hypothesis in the beam may end.
    """

    labels: tuple[int, ...]
    score: float
    acoustic: float
    lm: float = 0.0
    complete: bool = True


def greedy_decode(log_probs: np.ndarray, blank: int = 0) -> list[int]:
    """Labels of the best path: the best output of each of [T, V] frames, repeats merged, blanks removed."""
    best = _check_log_probs(log_probs, blank).argmax(1)
    first = np.ones(len(best), bool)
    first[1:] = best[1:] != best[:-1]
    return best[first & (best != blank)].tolist()


def prefix_beam_search(
    log_probs: np.ndarray,
    *,
    beam: int = 16,
    blank: int = 0,
    language_model: LabelGraph | None = None,
    lm_weight: float = 0.5,
    insertion_bonus: float = 0.0,
    allowed: LabelGraph | None = None,
) -> list[BeamHypothesis]:
    """At most `beam` different label sequences of log_probs [T, V], best first; empty if none has a probability.

    Exact if no prefix ever leaves the beam. A language model with lm_weight 0 is ignored. In `allowed`, a weight of
    -inf forbids a label or an end of text; its other weights are not used. Raises UsageError for inconsistent shapes,
    NaN, +inf, a frame with only -inf, and invalid options.
    """
    log_probs = _check_log_probs(log_probs, blank)
    if beam < 1 or not lm_weight >= 0:
        raise UsageError(
            f"beam is {beam}, lm_weight {lm_weight}", "give a beam of at least 1 and a weight of at least 0"
        )
    language_model = language_model if lm_weight > 0 else None
    for graph in (language_model, allowed):
        if graph is not None and graph.size != log_probs.shape[1]:
            raise UsageError(
                f"the outputs are {log_probs.shape[1]}, but the language model or spelling has {graph.size} labels",
                "decode with a language model of the same alphabet",
            )
    search = _Beam(beam, blank, log_probs.shape[1], language_model, lm_weight, insertion_bonus, allowed)
    for frame in log_probs:
        search.advance(frame)
        if not len(search.nodes):
            return []
    return search.hypotheses()


def _check_log_probs(log_probs: np.ndarray, blank: int) -> np.ndarray:
    """[T, V] float64. Raises UsageError if the values cannot be log probabilities."""
    values = np.asarray(log_probs, np.float64)
    if values.ndim != 2 or not 0 <= blank < values.shape[1]:
        raise UsageError(f"log probabilities {values.shape} with blank {blank}", "give [T, V] with 0 <= blank < V")
    # the maximum is NaN if any value is NaN
    if bad := np.flatnonzero(~np.isfinite(values.max(1))).tolist():
        raise UsageError(
            f"frame {bad[0]} of {len(values)} has NaN, +inf or only -inf ({len(bad)} such frames)",
            "give finite log probabilities; check the model's outputs and its features",
        )
    return values


class _Beam:
    """The beam after some frames: K prefixes, best first, as arrays [K]; prefixes are nodes of a tree.

    For each prefix: log probabilities of its paths that end in its last label and of those that end in the blank,
    states of the language model and of the spelling rules, and the language model's weight so far.
    """

    def __init__(self, beam, blank, size, language_model, lm_weight, insertion_bonus, allowed) -> None:
        self.beam, self.blank, self.size = beam, blank, size
        self.language_model, self.lm_weight, self.allowed = language_model, lm_weight, allowed
        self.insertion_bonus = insertion_bonus
        self.parents, self.node_labels = [ROOT], [blank]
        self.children: dict[int, int] = {}
        self.nodes = self.parent = np.zeros(1, np.int64)
        self.last = np.full(1, blank)
        self.in_label, self.in_blank = np.full(1, -np.inf), np.zeros(1)
        # added to the acoustic weight: language model and bonus so far
        self.lm, self.bonus = np.zeros(1), np.zeros(1)
        self.lm_state = self.spelling = np.zeros(1, np.int64)

    def advance(self, frame: np.ndarray) -> None:
        """Process one frame [V] of log probabilities."""
        count = len(self.nodes)
        total = np.logaddexp(self.in_label, self.in_blank)
        stay_blank = total + frame[self.blank]
        stay_label = self.in_label + frame[self.last]
        stay_label[self.last == self.blank] = -np.inf
        extensions = total[:, None] + frame
        # a repeated label counts as new only after a blank
        extensions[np.arange(count), self.last] = self.in_blank + frame[self.last]
        extensions[:, self.blank] = -np.inf
        if self.allowed is not None:
            extensions[self.allowed.weights(self.spelling) == -np.inf] = -np.inf
        self._merge_duplicates(extensions, stay_label)
        lm_scores = (
            self.lm_weight * self.language_model.weights(self.lm_state) if self.language_model is not None else 0.0
        )
        stay_total = np.logaddexp(stay_label, stay_blank)
        scores = np.concatenate(
            [stay_total + self.bonus, (extensions + self.bonus[:, None] + lm_scores + self.insertion_bonus).ravel()]
        )
        self._select(self._best_candidates(scores), count, stay_label, stay_blank, extensions)

    def _merge_duplicates(self, extensions: np.ndarray, stay_label: np.ndarray) -> None:
        """Merge an extended prefix with an equal prefix that is in the beam already."""
        nodes = self.nodes.tolist()
        index = {node: position for position, node in enumerate(nodes)}
        parents = zip(nodes, self.parent.tolist(), strict=True)
        pairs = [
            (position, index[parent])
            for position, (node, parent) in enumerate(parents)
            if parent in index and node != ROOT
        ]
        if pairs:
            targets, sources = np.array(pairs).T
            labels = self.last[targets]
            stay_label[targets] = np.logaddexp(stay_label[targets], extensions[sources, labels])
            extensions[sources, labels] = -np.inf

    def _best_candidates(self, scores: np.ndarray) -> np.ndarray:
        """Indices of the best scores, best first; ties go to the first index, so every run gives the same result."""
        if len(scores) > self.beam:
            threshold = np.partition(scores, -self.beam)[-self.beam]
            indices = np.flatnonzero(scores >= threshold)
        else:
            indices = np.arange(len(scores))
        indices = indices[np.argsort(-scores[indices], kind="stable")][: self.beam]
        return indices[scores[indices] > -np.inf]

    def _select(self, selected, count, stay_label, stay_blank, extensions) -> None:
        """Make the selected candidates the new beam: the first `count` are the old prefixes, then V extensions
        of each.
        """
        is_existing = selected < count
        source = np.where(is_existing, selected, (selected - count) // self.size)
        label = np.where(is_existing, self.blank, (selected - count) % self.size)
        self.in_label = np.where(is_existing, stay_label[source], extensions[source, label])
        self.in_blank = np.where(is_existing, stay_blank[source], -np.inf)
        nodes, is_new = self.nodes[source], ~is_existing
        nodes[is_new] = [
            self._child(node, last) for node, last in zip(nodes[is_new].tolist(), label[is_new], strict=True)
        ]
        self.parent = np.where(is_existing, self.parent[source], self.nodes[source])
        self.last = np.where(is_existing, self.last[source], label)
        self.nodes, self.bonus, self.lm = nodes, self.bonus[source], self.lm[source]
        self.lm_state, self.spelling = self.lm_state[source], self.spelling[source]
        self.bonus[is_new] += self.insertion_bonus
        if self.language_model is not None:
            lm_scores = self.language_model.weights(self.lm_state[is_new])[np.arange(is_new.sum()), label[is_new]]
            self.lm[is_new] += lm_scores
            self.bonus[is_new] += self.lm_weight * lm_scores
            self.lm_state[is_new] = self.language_model.step(self.lm_state[is_new], label[is_new])
        if self.allowed is not None:
            self.spelling[is_new] = self.allowed.step(self.spelling[is_new], label[is_new])

    def _child(self, node: int, label: int) -> int:
        key = node * self.size + int(label)
        child = self.children.setdefault(key, len(self.parents))
        if child == len(self.parents):
            self.parents.append(node)
            self.node_labels.append(int(label))
        return child

    def hypotheses(self) -> list[BeamHypothesis]:
        """The beam as hypotheses, best first; those that may not end are omitted unless there are no others."""
        hypotheses = [self._hypothesis(index) for index in range(len(self.nodes))]
        hypotheses.sort(key=lambda hypothesis: (-hypothesis.complete, -hypothesis.score))
        complete = [hypothesis for hypothesis in hypotheses if hypothesis.complete]
        return complete or hypotheses

    def _hypothesis(self, index: int) -> BeamHypothesis:
        labels, node = [], int(self.nodes[index])
        while node != ROOT:
            labels.append(self.node_labels[node])
            node = self.parents[node]
        acoustic = float(np.logaddexp(self.in_label[index], self.in_blank[index]))
        lm, complete = float(self.lm[index]), True
        if self.language_model is not None:
            lm += self.language_model.ending(int(self.lm_state[index]))
        if self.allowed is not None:
            complete = self.allowed.ending(int(self.spelling[index])) > -np.inf
        lm_score = self.lm_weight * lm if self.language_model is not None else 0.0
        score = acoustic + lm_score + self.insertion_bonus * len(labels)
        return BeamHypothesis(tuple(reversed(labels)), score, acoustic, lm, complete)
