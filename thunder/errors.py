"""The errors that a user can meet, each with the exit code that the shell sees and the next thing to do."""

from __future__ import annotations


class ThunderError(Exception):
    """Something went wrong that is not a bug of ours.

    message: what is wrong and where (file, line, value, what was expected).
    fix: the next command or change that helps; shown on a line of its own.
    """

    exit_code = 1

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n  to fix: {self.fix}" if self.fix else self.message


class RunFailed(ThunderError):
    """A run ended by its own error, such as a rank that died."""

    exit_code = 1


class UsageError(ThunderError):
    """A flag, an argument or a combination of them cannot be used."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file has an unknown key or a value of the wrong kind."""


class CorpusError(UsageError):
    """A data file is missing, empty or has rows that cannot be used."""


class ModelError(UsageError):
    """A model or adapter folder cannot be loaded."""


class GateError(ThunderError):
    """The gate says no, or two things cannot be compared."""

    exit_code = 3


class ArtifactError(ThunderError):
    """Something written by an earlier run is damaged, or is not what its record says."""

    exit_code = 4


class LegalityError(ThunderError):
    """What was tested had a part in what it is tested by."""

    exit_code = 5


class ClusterError(ThunderError):
    """A host, a link or a port is unreachable, taken or unhealthy."""

    exit_code = 6


class HangError(ThunderError):
    """A run made no progress within its deadline, or used up its restarts."""

    exit_code = 7


class ResourceError(ThunderError):
    """Out of memory, or a GPU time-out, with nothing smaller left to try."""

    exit_code = 8


class Interrupted(ThunderError):
    """The user asked to stop."""

    exit_code = 130


def combined_error(
    kind: type[ThunderError], headline: str, faults: list[str], fix: str = "", shown: int = 20
) -> ThunderError:
    """One error that lists all faults of one input; those past `shown` are counted, not listed."""
    lines = [headline, *(f"  {fault}" for fault in faults[:shown])]
    if len(faults) > shown:
        lines.append(f"  and {len(faults) - shown} more")
    return kind("\n".join(lines), fix)
