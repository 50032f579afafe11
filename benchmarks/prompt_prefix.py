"""Measure how much time the shared-prompt cache saves: answers with and without it, in turns, for the same rows.

    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/prompt_prefix.py [--rows 120] [--rounds 5]

It measures the prompt as it is, and after a system prompt of `--system-tokens` tokens; each with answers alone, with
the margin over an unchanged text (as on the bridge), and change by change (--change-margin 0). Each round makes a new
engine with an empty cache. The output is the median over rounds of the milliseconds a row, and the ratio without /
with the cache; the texts must be the same. On Linux set the launcher's BLAS:
LD_PRELOAD=/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0.
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
SYSTEM_SENTENCE = "You hear N'Ko spoken and write it down as it is spelt. "
MODES: dict[str, dict[str, Any]] = {
    "answers": {}, "answers and margins": {"margins": True}, "change by change": {"change_margin": 0.0},
}  # fmt: skip


def with_system_prompt(chosen: Sequence[Case], tokenizer: Any, tokens: int) -> list[Case]:
    """The cases after a system prompt of about `tokens` tokens."""
    sentence_tokens = len(tokenizer.encode(SYSTEM_SENTENCE, add_special_tokens=False))
    system = {"role": "system", "content": SYSTEM_SENTENCE * round(tokens / sentence_tokens)}
    return [replace(case, messages=(system, *case.messages)) for case in chosen]


def measure_engine(engine: ModelEngine, chosen: Sequence[Case]) -> tuple[float, float, list[str]]:
    """(CPU milliseconds a row, wall milliseconds a row, texts)."""
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
    arguments = parser.parse_args()
    loaded = engine_setup.load_model_engines(arguments.model, None)[0]
    short = list(itertools.islice(itertools.cycle(cases.read_cases(ROWS).cases), arguments.rows))
    prompts = {"as it is": short}
    prompts[f"{arguments.system_tokens} tokens more"] = with_system_prompt(
        short, loaded.prompts.tokenizer, arguments.system_tokens
    )
    for prompt, chosen in prompts.items():
        for mode, options in MODES.items():
            times: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
            texts = []
            for cached in [False, True] * arguments.rounds:
                engine = ModelEngine(loaded.model, loaded.prompts, arguments.batch_size, prefix_cache=cached, **options)
                cpu, wall, answers = measure_engine(engine, chosen)
                times[cached].append((cpu, wall))
                texts.append(answers)
            assert all(answers == texts[0] for answers in texts), "texts differ with and without the cache"
            cpu, wall = (
                [statistics.median(each[part] for each in times[cached]) for cached in times] for part in (0, 1)
            )
            print(
                f"prompt {prompt}, {mode}: {len(engine.prefix.tokens)} tokens cached; "
                f"CPU {cpu[0]:.1f} -> {cpu[1]:.1f} ms a row, speedup {cpu[0] / cpu[1]:.2f}; "
                f"wall {wall[0]:.1f} -> {wall[1]:.1f} ms, speedup {wall[0] / wall[1]:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
