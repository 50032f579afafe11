"""20,000 rows: disk and memory stay within what was allowed, and the order of rows is the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

FILL = """
import json, resource, sys
from pathlib import Path
import mlx.core as mx
import numpy as np
from thunder.corpora.rows.chat_rows import ChatRow
from thunder.lora import base_model, cache_warmup
from thunder.lora.tokenized_rows import Example
from thunder.lora.lora_settings import LoraSettings
from thunder.lora.lora_task import LoraTask
from thunder.parallel import row_order
from thunder.parallel.world import World
from thunder.training.step import make_optimizer, make_step

base, root, budget = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
draw = np.random.default_rng(0)
examples = []
for _ in range(20_000):
    prompt, answer = int(draw.integers(8, 30)), int(draw.integers(4, 16))
    ids = draw.integers(7, 300, prompt + answer).astype(np.int32)
    examples.append(Example(ids, prompt, ChatRow((), "made", "made")))
settings = LoraSettings(num_layers=2, lora_rank=4, batch_size=4, iters=10_000, prefix_cache=budget, probe_rows=0)
task = LoraTask(base_model.load_base_model(base), settings, examples)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
said = []
cache = cache_warmup.warm_up_cache(task, settings, World(), base_digest="base", ranks=1, root=root, log=said.append)
filled = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step = make_step(task, make_optimizer(settings), settings, World())
plans = list(row_order.plan_steps(task.rows, 4, 0, until=60, lengths=task.lengths))
losses = [step(plan, False).loss for plan in plans]
print(json.dumps({
    "said": said[0], "losses": losses, "rows": [list(plan.rows) for plan in plans],
    "disk": sum(path.stat().st_size for path in root.rglob("*.entries")),
    "grown": 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before),
    "grown_filling": 1024 * (filled - before),
}))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_thousand_rows_stay_within_their_budget(tiny_model, tmp_path):
    """The process may grow by the budget, since mapped pages count, and by a fixed amount for its work."""
    found = {}
    for budget in ("20MB", "4GB"):
        done = subprocess.run(
            [sys.executable, "-P", "-c", FILL, str(tiny_model), str(tmp_path / budget), budget],
            env=os.environ, capture_output=True, text=True, timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[budget] = json.loads(done.stdout.splitlines()[-1])
        print(budget, {name: value for name, value in found[budget].items() if name not in ("losses", "rows")})
    small, large = found["20MB"], found["4GB"]
    assert 15e6 < small["disk"] <= 20e6 and "20000 of 20000 rows" in large["said"]
    assert large["disk"] > 2 * small["disk"]
    assert small["grown"] < 20e6 + 150e6 and large["grown"] < large["disk"] + 150e6
    assert small["rows"] == large["rows"] and small["losses"] == large["losses"]
