"""`python -m thunder`."""

from thunder.cli.main import entry

if __name__ == "__main__":
    entry()
