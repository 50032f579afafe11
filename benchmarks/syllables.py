"""What the gate's check of syllables would cost and catch: corrections by people, and the same ones backwards.

python benchmarks/syllables.py ROWS

Each pair of texts is held against the rules twice, with a proposer that could not be surer: as the correction that it
is, and from the right text back to the wrong one. Of what the gate accepts without the check, how much would it refuse?
"""

from __future__ import annotations

import argparse
from pathlib import Path

from thunder.bridge.gate import gate, gate_rules
from thunder.bridge.gate.gate import GateEvidence
from thunder.evaluation import cases
from thunder.evaluation.engines import Proposal
from thunder.text.syllables import count_violations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    source = parser.parse_args().source
    pairs = [(case.input, case.reference) for case in cases.read_cases(source).cases if case.input != case.reference]
    book = gate_rules.read_gate_rules()
    assert book.rules.syllables == "off"
    for partition in ("boundary", "uncertain"):
        for name, ways in (("corrections", pairs), ("backwards", [(after, before) for before, after in pairs])):
            taken = [
                (hypothesis, proposal)
                for hypothesis, proposal in ways
                if gate.decide_proposal(
                    GateEvidence(hypothesis, Proposal(proposal, 0.0, margin=9.0), partition), book
                ).decision
                == "accept"
            ]
            refused = sum(count_violations(proposal) > count_violations(hypothesis) for hypothesis, proposal in taken)
            print(f"{partition:9} {name:11} {refused} of {len(taken)} refused ({refused / max(1, len(taken)):.2%})")


if __name__ == "__main__":
    main()
