"""What reading the beginning of prompts once is worth: answers with and without, in turns, of the same model and rows.

    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/prompt_prefix.py [--rows 120] [--rounds 5]

The prompt as it is, and behind a system prompt of so many tokens; answers alone, with the margin over leaving a text
alone (as on the bridge), and change by change (--change-margin 0). Each round has a new engine that has read nothing.
Prints medians over rounds, for each row, and their ratio (without / with); the texts must be the same. On Linux give it
the BLAS of the launcher: LD_PRELOAD=/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from thunder.config import REPOSITORY
from thunder.evaluation import cases, engine_setup
from thunder.evaluation.cases import Case
from thunder.evaluation.decoding.model_engine import ModelEngine

ROWS = REPOSITORY / "data" / "sample" / "test.jsonl"
SAYS = "You hear N'Ko spoken and write it down as it is spelt. "
MODES: dict[str, dict[str, Any]] = {
    "answers": {}, "answers and margins": {"margins": True}, "change by change": {"change_margin": 0.0},
}  # fmt: skip


def with_system_prompt(chosen: Sequence[Case], tokenizer: Any, tokens: int) -> list[Case]:
    """The cases behind a system prompt of about so many tokens."""
    each = len(tokenizer.encode(SAYS, add_special_tokens=False))
    system = {"role": "system", "content": SAYS * round(tokens / each)}
    return [replace(case, messages=(system, *case.messages)) for case in chosen]


def measured(engine: ModelEngine, chosen: Sequence[Case]) -> tuple[float, float, list[str]]:
    """Milliseconds of the processor and of the clock for each row, and the texts."""
    begun = time.process_time(), time.perf_counter()
    texts = [proposal.text for proposal in engine.propose(chosen)]
    spent = time.process_time() - begun[0], time.perf_counter() - begun[1]
    return 1000 * spent[0] / len(chosen), 1000 * spent[1] / len(chosen), texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="Default: the tiny one shipped here.")
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--system-tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    loaded = engine_setup.load_model_engines(given.model, None)[0]
    short = list(itertools.islice(itertools.cycle(cases.read_cases(ROWS).cases), given.rows))
    prompts = {"as it is": short}
    prompts[f"{given.system_tokens} tokens more"] = with_system_prompt(short, loaded.tokenizer, given.system_tokens)
    for prompt, chosen in prompts.items():
        for mode, how in MODES.items():
            found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
            texts = []
            for kept in [False, True] * given.rounds:
                engine = ModelEngine(
                    loaded.model, loaded.tokenizer, loaded.stops, given.batch_size, prefix_cache=kept, **how
                )
                cpu, wall, said = measured(engine, chosen)
                found[kept].append((cpu, wall))
                texts.append(said)
            assert all(said == texts[0] for said in texts), "other texts with the prefix than without"
            cpu, wall = ([statistics.median(each[part] for each in found[kept]) for kept in found] for part in (0, 1))
            print(
                f"prompt {prompt}, {mode}: {len(engine.prefix.tokens)} kept; CPU {cpu[0]:.1f} -> {cpu[1]:.1f} ms "
                f"a row, {cpu[0] / cpu[1]:.2f} times as fast; wall {wall[0]:.1f} -> {wall[1]:.1f} ms, "
                f"{wall[0] / wall[1]:.2f} times",
                flush=True,
            )


if __name__ == "__main__":
    main()
