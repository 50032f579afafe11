#!/usr/bin/env python3
"""The same as `thunder eval`: scripts/thunder_python.sh scripts/eval_agp_nko_adapter.py --rows FILE [--json]."""

from thunder.cli.main import eval_entry

if __name__ == "__main__":
    eval_entry()
