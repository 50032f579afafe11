#!/usr/bin/env python3
"""The same as `thunder status`: scripts/thunder_python.sh scripts/thunder_status.py [--cluster NAME]."""

from thunder.cli.main import status_entry

if __name__ == "__main__":
    status_entry()
