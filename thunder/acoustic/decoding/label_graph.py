"""A weighted automaton over CTC labels, expanded on demand; language models and spelling rules are such graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# anything that can be a key of a dict
GraphState = Any
# weights [V] in nats of each label in a state (-inf: it may not follow), and the V states that the labels lead to
Arcs = tuple[np.ndarray, Sequence[GraphState]]


class LabelGraph:
    """States are numbered in the order of their discovery; 0 is the start. The blank is no label and changes no state.

    arcs: called once for each expanded state. ending: weight in nats of a text that ends in a state, -inf if none may.
    """

    def __init__(
        self, size: int, start: GraphState, arcs: Callable[[GraphState], Arcs], ending: Callable[[GraphState], float]
    ):
        self.size = size
        self._arcs, self._ending = arcs, ending
        self._numbers: dict[GraphState, int] = {}
        self._states: list[GraphState] = []
        self._expanded = np.zeros(64, bool)
        self._weights = np.full((64, size), -np.inf)
        self._next = np.zeros((64, size), np.int64)
        self._number(start)

    def weights(self, numbers: np.ndarray) -> np.ndarray:
        """Weights [K, V] of every label in K states."""
        for number in numbers[~self._expanded[numbers]]:
            self._expand(int(number))
        return self._weights[numbers]

    def step(self, numbers: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The states [K] that labels [K] lead to from K states; call `weights` for these states first."""
        return self._next[numbers, labels]

    def ending(self, number: int) -> float:
        """The weight in nats of a text that ends in this state."""
        return self._ending(self._states[number])

    def text_weight(self, labels: Sequence[int]) -> float:
        """The weight in nats of a whole text with its end."""
        state, total = np.zeros(1, np.int64), 0.0
        for label in labels:
            total += float(self.weights(state)[0, label])
            if total == -np.inf:
                return total
            state = self.step(state, np.array([label]))
        return total + self.ending(int(state[0]))

    def _expand(self, number: int) -> None:
        if self._expanded[number]:
            return
        weights, states = self._arcs(self._states[number])
        next_states = [
            self._number(state) if weight > -np.inf else 0 for weight, state in zip(weights, states, strict=True)
        ]
        self._weights[number], self._next[number], self._expanded[number] = weights, next_states, True

    def _number(self, state: GraphState) -> int:
        number = self._numbers.setdefault(state, len(self._states))
        if number == len(self._states):
            self._states.append(state)
            if number == len(self._expanded):
                self._expanded = np.concatenate([self._expanded, np.zeros_like(self._expanded)])
                self._weights = np.concatenate([self._weights, np.full_like(self._weights, -np.inf)])
                self._next = np.concatenate([self._next, np.zeros_like(self._next)])
        return number
