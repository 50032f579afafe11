"""Prompt formats with other stops, for tests of decoding."""

from __future__ import annotations

import copy


def with_stops(prompts, stops):
    """The same format with other tokens that end an answer."""
    changed = copy.copy(prompts)
    changed.stops = set(stops)
    return changed
