"""Repair one recognized N'Ko text with an adapter, and see what the gate decides.

    python examples/repair_text.py "ߒ ߓߍ߫ ߕߊ߯" --adapter runs/latest/adapters

Without --adapter the shipped tiny base answers: enough to see the pieces work together, not to repair well.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from thunder import Bridge


def main(text: str, adapter: str | None, log: Path) -> None:
    """Take one text over the bridge and print the decision."""
    # dev_key signs with a key that anybody knows: for trying things out. `thunder agp key new` makes a real one
    with Bridge(adapter_path=adapter, dev_key=True, log=str(log)) as bridge:
        decision = bridge.propose(text)
    print(f"recognized  {decision.recognized}")
    print(f"proposal    {decision.proposal}")
    print(f"decision    {decision.decision}: {decision.text}")
    for reason in decision.reasons:
        print(f"            broken rule: {reason}")
    print(
        f"admissible  {'yes' if decision.admissible else 'no, a person has to look'}; record {decision.provenance_id}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text")
    parser.add_argument("--adapter", help="Folder of an adapter (default: none).")
    parser.add_argument("--log", type=Path, default=Path("provenance.jsonl"), help="Provenance log to append to.")
    arguments = parser.parse_args()
    main(arguments.text, arguments.adapter, arguments.log)
