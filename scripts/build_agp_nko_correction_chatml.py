#!/usr/bin/env python3
"""The same as `thunder corpus build`: scripts/thunder_python.sh scripts/build_agp_nko_correction_chatml.py --help."""

import sys

from thunder.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["corpus", "build", *sys.argv[1:]]))
