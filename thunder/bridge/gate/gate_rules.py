"""Read the rules of the gate from a file, check them, and name them by the digest of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from thunder import digest
from thunder.config import CONFIGS, Settings, SettingsLayer, build_settings, load_yaml, option
from thunder.errors import ConfigError
from thunder.text.row_fields import PARTITIONS

DEFAULT_RULES = CONFIGS / "gate" / "agp_rules_v2.yaml"
# partitions that a file of rules may lack, as those written before they existed do
OPTIONAL_PARTITIONS = ("recovery",)


class PartitionBudget(Settings):
    """How much of a text of one partition may be changed, and how confident the proposer must be."""

    max_edits: int = option(..., "Edits that are always allowed.", ge=0)
    max_edits_percent: int = option(..., "Edits allowed in percent of the input, where that is more.", ge=0, le=100)
    max_ratio_percent: int = option(..., "Upper limit of the edits, in percent of the input.", ge=0, le=100)
    min_confidence: float | None = option(..., "Least exp(mean log-probability of the tokens).", ge=0, le=1)
    min_margin: float | None = option(..., "Least margin over the unchanged input, in nats per code point.", ge=0)
    review: bool = option(..., "An unchanged text also needs a human check.")


class GateRules(Settings):
    """All thresholds of the gate. A file states every one, except for optional checks that it does not use."""

    name: str = option(..., "Name of the rules.", pattern=r"^[a-z0-9_]{1,64}$")
    own_script_percent: int = option(..., "Least share of letters in the script of the row, in percent.", ge=51, le=100)
    shortest_percent: int = option(..., "Shortest proposal, in percent of the input.", ge=1, le=100)
    longest_percent: int = option(..., "Longest proposal, in percent of the input.", ge=100, le=1000)
    short_text: int = option(..., "Inputs with fewer code points may differ by short_difference.", ge=0)
    short_difference: int = option(..., "Code points by which the length of a short input may change.", ge=0)
    span_slack: int = option(..., "Code points around a span in which edits are allowed.", ge=0)
    syllables: Literal["off", "no-worse"] = option("off", "no-worse: no more syllable violations than in the input.")
    partitions: dict[str, Any] = option(..., "Budgets by partition.")
    derived_novelty: float = option(..., "Least novelty of the partition novelty.")
    derived_uncertainty: float = option(..., "Least uncertainty of the partition uncertain.")
    derived_transition: float = option(..., "Least absolute transition pressure of the partition boundary.")
    derived_commitment: float = option(..., "Commitment below which a row belongs to the partition boundary.")
    breaker_rows: int = option(..., "Rows below which a batch is not judged as a whole.", ge=1)
    breaker_changed_percent: int = option(..., "Most changed rows of a batch, in percent.", ge=0, le=100)
    breaker_rejected_percent: int = option(..., "Most rejected rows of a batch, in percent.", ge=0, le=100)


@dataclass(frozen=True)
class Rulebook:
    """The rules of one file. budgets: of the partitions that it names. sha256: hex digest of its bytes."""

    rules: GateRules
    budgets: Mapping[str, PartitionBudget]
    sha256: str

    @property
    def id(self) -> str:
        """Name and digest; another file has another id."""
        return f"{self.rules.name}@{self.sha256}"


def read_gate_rules(path: Path = DEFAULT_RULES) -> Rulebook:
    """Read a file of rules.

    Raises ConfigError that lists every key that is unknown, missing or out of range, also in the partitions, or where
    the file changes while it is read.
    """
    sha256 = _file_digest(path)
    values, faults = load_yaml(path), []
    try:
        rules, _ = build_settings(GateRules, [SettingsLayer(str(path), values)])
    except ConfigError as error:
        rules, faults = None, _fault_lines(error)
    budgets: dict[str, PartitionBudget] = {}
    partitions = values.get("partitions")
    given = partitions if isinstance(partitions, dict) else {}
    for name in dict.fromkeys([*PARTITIONS, *map(str, given)]):
        where = f"{path}: partitions.{name}"
        if name not in PARTITIONS:
            faults.append(f"  {where}: no such partition; the partitions are {', '.join(PARTITIONS)}")
        elif name in OPTIONAL_PARTITIONS and name not in given:
            continue
        elif not isinstance(given.get(name), dict):
            faults.append(f"  {where}: expected keys and values")
        else:
            try:
                budgets[name] = build_settings(PartitionBudget, [SettingsLayer(where, given[name])])[0]
            except ConfigError as error:
                faults += _fault_lines(error)
    if faults or rules is None:
        raise ConfigError("\n".join(["the gate's rules cannot be used:", *faults]), fix=f"compare with {DEFAULT_RULES}")
    if _file_digest(path) != sha256:  # a pipe, or an editor at work: the id would be that of another file
        raise ConfigError(f"{path}: changed while it was read", fix="name a file that does not change")
    return Rulebook(rules, budgets, sha256)


def _file_digest(path: Path) -> str:
    try:
        return digest.sha256_file(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", fix="name a YAML file of rules") from None


def _fault_lines(error: ConfigError) -> list[str]:
    """The lines of an error after its headline."""
    return error.message.splitlines()[1:]
