#!/usr/bin/env python3
"""The same as `thunder corpus synthetic`, into data/nko-synthetic-2k unless --out says otherwise."""

import sys

from thunder.cli.main import main

if __name__ == "__main__":
    named = any(word.split("=")[0] in ("--out", "--help", "--config", "-c") for word in sys.argv[1:])
    sys.exit(main(["corpus", "synthetic", *([] if named else ["--out", "data/nko-synthetic-2k"]), *sys.argv[1:]]))
