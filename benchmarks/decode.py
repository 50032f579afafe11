"""Compare prefix beam search with other decoders on this CPU, one thread: T 375, V 66, without a language model.

    .venv/bin/pip install ctc-beam-decoder pyctcdecode
    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/decode.py [--rounds 5]

The decoders run alternately on the same outputs, of a confident and of an uncertain recognizer. The other decoders run
with their defaults, which prune labels below e^-5 at a frame, and again without pruning (whole). For each of them, the
script prints the ratio of the minimum CPU times (thunder / other decoder; below 1, thunder is faster). For every
decoder, it prints the log probability of the best text, summed over all paths in float64: higher is better.
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


def random_outputs(confidence: float) -> np.ndarray:
    """Log probabilities [T, V]: noise and a path of labels, two frames for each label, with blanks between them."""
    draw = np.random.default_rng(0)
    path = [label for symbol in draw.integers(1, OUTPUTS, FRAMES // 5) for label in (symbol, symbol, 0, 0, 0)]
    logits = draw.normal(size=(FRAMES, OUTPUTS))
    logits[range(FRAMES), path] += confidence
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def other_decoders(beam: int) -> dict[str, Callable[[np.ndarray], str]]:
    """The other decoders that are installed, each as a function from log probabilities [T, V] to text."""
    decoders: dict[str, Callable[[np.ndarray], str]] = {}
    if importlib.util.find_spec("pyctcdecode"):
        from pyctcdecode import build_ctcdecoder

        slow = build_ctcdecoder(LABELS)
        decoders["pyctcdecode"] = lambda x: slow.decode(x, beam)
        decoders["pyctcdecode whole"] = lambda x: slow.decode(x, beam, **WHOLE)
    if importlib.util.find_spec("ctc_beam_decoder"):
        from ctc_beam_decoder import BeamSearchDecoder

        fast = BeamSearchDecoder(LABELS)
        decoders["ctc-beam-decoder"] = lambda x: fast.decode(x, beam_width=beam)
        decoders["ctc-beam-decoder whole"] = lambda x: fast.decode(x, beam_width=beam, **WHOLE)
    return decoders


def log_probability(log_probs: np.ndarray, labels: list[int]) -> float:
    """Log probability of a label sequence, summed over all paths: forward variables in float64."""
    states = np.zeros(2 * len(labels) + 1, int)
    states[1::2] = labels
    skip = np.append([False, False], (states[2:] != 0) & (states[2:] != states[:-2]))
    forward = np.full(len(states), -np.inf)
    forward[:2] = log_probs[0, states[:2]]
    for frame in log_probs[1:]:
        step, jump = np.append(-np.inf, forward[:-1]), np.append([-np.inf, -np.inf], forward[:-2])
        forward = np.logaddexp.reduce([forward, step, np.where(skip, jump, -np.inf)]) + frame[states]
    return float(np.logaddexp(forward[-1], forward[-2]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beam", type=int, default=50)
    options = parser.parse_args()
    for name, confidence in (("confident", 8.0), ("uncertain", 2.0)):
        log_probs = random_outputs(confidence)
        calls = {
            "thunder": lambda x: "".join(LABELS[label] for label in prefix_beam_search(x, beam=options.beam)[0].labels)
        }
        calls |= other_decoders(options.beam)
        best, texts = dict.fromkeys(calls, np.inf), {}
        for _ in range(options.rounds):
            for decoder, call in calls.items():
                start = time.process_time()
                texts[decoder] = call(log_probs)
                best[decoder] = min(best[decoder], time.process_time() - start)
        for decoder, text in texts.items():
            score = log_probability(log_probs, [LABELS.index(letter) for letter in text])
            ratio = "" if decoder == "thunder" else f", ratio {best['thunder'] / best[decoder]:.2f}"
            spent = f"{1000 * best[decoder]:7.1f} ms"
            print(f"{name:9} {decoder:22} {spent}, log probability {score:.3f}{ratio}", flush=True)


if __name__ == "__main__":
    main()
