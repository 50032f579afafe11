"""Errors that a user can meet, each with its exit code and the next thing to do."""

from __future__ import annotations


class ThunderError(Exception):
    """An expected error, not a bug of the package.

    message: what is wrong and where (file, line, value, what was expected). fix: the next command or change that helps;
    printed on its own line.
    """

    exit_code = 1

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n  to fix: {self.fix}" if self.fix else self.message


class RunFailed(ThunderError):
    """A run ended by its own error, for example a rank that died."""

    exit_code = 1


class UsageError(ThunderError):
    """A flag, an argument or a combination of them cannot be used."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file has an unknown key or an invalid value."""


class CorpusError(UsageError):
    """A data file is missing, empty or has rows that cannot be used."""


class ModelError(UsageError):
    """A model or adapter folder cannot be loaded."""


class GateError(ThunderError):
    """The gate rejects, or two things cannot be compared."""

    exit_code = 3


class ArtifactError(ThunderError):
    """A file of an earlier run is damaged, or does not match its record."""

    exit_code = 4


class LegalityError(ThunderError):
    """The test data took part in making what it tests."""

    exit_code = 5


class ClusterError(ThunderError):
    """A host, a link or a port is unreachable, in use or unhealthy."""

    exit_code = 6


class HangError(ThunderError):
    """A run made no progress within its deadline, or used up its restarts."""

    exit_code = 7


class ResourceError(ThunderError):
    """Out of memory, or a GPU time-out, with no smaller shape left to try."""

    exit_code = 8


class Interrupted(ThunderError):
    """The user asked to stop."""

    exit_code = 130


def combined_error(
    kind: type[ThunderError], headline: str, faults: list[str], fix: str = "", shown: int = 20
) -> ThunderError:
    """Return one error that lists all faults of an input; faults past `shown` are only counted."""
    lines = [headline, *(f"  {fault}" for fault in faults[:shown])]
    if len(faults) > shown:
        lines.append(f"  and {len(faults) - shown} more")
    return kind("\n".join(lines), fix)
