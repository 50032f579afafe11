"""Prefix beam search against a peer's on this CPU, one thread: T 375, V 66, without a language model.

    .venv/bin/pip install ctc-beam-decoder pyctcdecode
    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/decode.py [--rounds 5]

They decode in turns the same outputs: of a sure recognizer and of one that hesitates between all labels. Peers run as
they come, leaving out labels of less than e^-5 at a frame, and once more without that (whole). Prints for each peer
the ratio of the least CPU times (ours over theirs; below 1 is faster), and the log probability of the text that each
puts first, all paths summed in float64: higher is better.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable

import numpy as np

from thunder.acoustic.decoding.beam_search import prefix_beam_search

FRAMES, OUTPUTS = 375, 66
WHOLE = {"beam_prune_logp": -1e9, "token_min_logp": -1e9}
LABELS = ["", *(chr(0x4E00 + label) for label in range(1, OUTPUTS))]


def outputs(sureness: float) -> np.ndarray:
    """Log probabilities [T, V]: a path of labels, two frames each with blanks between, in noise."""
    draw = np.random.default_rng(0)
    path = [label for one in draw.integers(1, OUTPUTS, FRAMES // 5) for label in (one, one, 0, 0, 0)]
    logits = draw.normal(size=(FRAMES, OUTPUTS))
    logits[range(FRAMES), path] += sureness
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def peers(beam: int) -> dict[str, Callable[[np.ndarray], str]]:
    """The decoders that are installed, each as log probabilities -> text."""
    found: dict[str, Callable[[np.ndarray], str]] = {}
    if importlib.util.find_spec("pyctcdecode"):
        from pyctcdecode import build_ctcdecoder

        slow = build_ctcdecoder(LABELS)
        found["pyctcdecode"] = lambda x: slow.decode(x, beam)
        found["pyctcdecode whole"] = lambda x: slow.decode(x, beam, **WHOLE)
    if importlib.util.find_spec("ctc_beam_decoder"):
        from ctc_beam_decoder import BeamSearchDecoder

        fast = BeamSearchDecoder(LABELS)
        found["ctc-beam-decoder"] = lambda x: fast.decode(x, beam_width=beam)
        found["ctc-beam-decoder whole"] = lambda x: fast.decode(x, beam_width=beam, **WHOLE)
    return found


def log_probability(log_probs: np.ndarray, labels: list[int]) -> float:
    """Of a labelling, all paths summed: forward variables in float64."""
    states = np.zeros(2 * len(labels) + 1, int)
    states[1::2] = labels
    skip = np.append([False, False], (states[2:] != 0) & (states[2:] != states[:-2]))
    ahead = np.full(len(states), -np.inf)
    ahead[:2] = log_probs[0, states[:2]]
    for frame in log_probs[1:]:
        step, jump = np.append(-np.inf, ahead[:-1]), np.append([-np.inf, -np.inf], ahead[:-2])
        ahead = np.logaddexp.reduce([ahead, step, np.where(skip, jump, -np.inf)]) + frame[states]
    return float(np.logaddexp(ahead[-1], ahead[-2]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beam", type=int, default=50)
    options = parser.parse_args()
    for name, sureness in (("sure", 8.0), ("hesitant", 2.0)):
        log_probs = outputs(sureness)
        calls = {
            "ours": lambda x: "".join(LABELS[label] for label in prefix_beam_search(x, beam=options.beam)[0].labels)
        }
        calls |= peers(options.beam)
        best, texts = dict.fromkeys(calls, np.inf), {}
        for _ in range(options.rounds):
            for decoder, call in calls.items():
                begun = time.process_time()
                texts[decoder] = call(log_probs)
                best[decoder] = min(best[decoder], time.process_time() - begun)
        for decoder, text in texts.items():
            score = log_probability(log_probs, [LABELS.index(letter) for letter in text])
            ratio = "" if decoder == "ours" else f", ratio {best['ours'] / best[decoder]:.2f}"
            spent = f"{1000 * best[decoder]:7.1f} ms"
            print(f"{name:8} {decoder:22} {spent}, log probability {score:.3f}{ratio}", flush=True)


if __name__ == "__main__":
    main()
