"""The beginning of a script that joins a ring of ranks, and what such scripts print."""

from __future__ import annotations

import json

PREAMBLE = """
import json, os, sys
import mlx.core as mx
from thunder.errors import ThunderError
from thunder.parallel import collectives, consistency, world
ring = world.join_world()
"""


def outputs(results):
    return [json.loads(text.strip().splitlines()[-1]) for code, text in results if code == 0]
