"""The rules of the gate: read from a file, checked, and named by that file's digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from thunder import digest
from thunder.config import CONFIGS, Settings, SettingsLayer, build_settings, load_yaml, option
from thunder.errors import ConfigError
from thunder.text.row_fields import PARTITIONS

DEFAULT_RULES = CONFIGS / "gate" / "agp_rules_v1.yaml"


class PartitionBudget(Settings):
    """What may be changed in the texts of one partition, and how sure the proposer must be."""

    max_edits: int = option(..., "Edits that are always allowed.", ge=0)
    max_edits_percent: int = option(..., "Edits allowed, in percent of the input, where that is more.", ge=0, le=100)
    max_ratio_percent: int = option(..., "Edits never exceed this, in percent of the input.", ge=0, le=100)
    min_confidence: float | None = option(..., "Least exp(mean log-probability of the tokens).", ge=0, le=1)
    min_margin: float | None = option(..., "Least nats per code point over leaving the input alone.", ge=0)
    review: bool = option(..., "A text that is left alone goes to a person as well.")


class GateRules(Settings):
    """All thresholds of the gate; a file says every one of them, but for checks that it does without."""

    name: str = option(..., "Name of the rules.", pattern=r"^[a-z0-9_]{1,64}$")
    own_script_percent: int = option(..., "Letters that are of the row's script.", ge=51, le=100)
    shortest_percent: int = option(..., "Shortest proposal, in percent of the input.", ge=1, le=100)
    longest_percent: int = option(..., "Longest proposal, in percent of the input.", ge=100, le=1000)
    short_text: int = option(..., "Inputs with fewer code points may differ by short_difference.", ge=0)
    short_difference: int = option(..., "Code points by which a short input's length may differ.", ge=0)
    span_slack: int = option(..., "Code points around a span in which edits are allowed.", ge=0)
    syllables: Literal["off", "no-worse"] = option("off", "Whether more may break the syllables of N'Ko than before.")
    partitions: dict[str, Any] = option(..., "Budgets by partition.")
    derived_novelty: float = option(..., "Least novelty of novelty.")
    derived_uncertainty: float = option(..., "Least uncertainty of uncertain.")
    derived_transition: float = option(..., "Least absolute transition pressure of boundary.")
    derived_commitment: float = option(..., "Commitment below which a row is boundary.")
    breaker_rows: int = option(..., "Rows below which a batch is not judged as a whole.", ge=1)
    breaker_changed_percent: int = option(..., "Most changed rows of a batch.", ge=0, le=100)
    breaker_rejected_percent: int = option(..., "Most rejected rows of a batch.", ge=0, le=100)


@dataclass(frozen=True)
class Rulebook:
    """The rules of one file. sha256: of its bytes, as sha256sum prints it."""

    rules: GateRules
    budgets: Mapping[str, PartitionBudget]
    sha256: str

    @property
    def id(self) -> str:
        """Name and digest: another file, another id."""
        return f"{self.rules.name}@{self.sha256}"


def read_gate_rules(path: Path = DEFAULT_RULES) -> Rulebook:
    """Read a file of rules.

    Raises ConfigError that lists every key which is unknown, missing or out of range, of the partitions too, or where
    the file changes meanwhile.
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
            faults.append(f"  {where}: no such partition; known are {', '.join(PARTITIONS)}")
        elif not isinstance(given.get(name), dict):
            faults.append(f"  {where}: expected keys and values")
        else:
            try:
                budgets[name] = build_settings(PartitionBudget, [SettingsLayer(where, given[name])])[0]
            except ConfigError as error:
                faults += _fault_lines(error)
    if faults or rules is None:
        raise ConfigError("\n".join(["the gate's rules cannot be used:", *faults]), fix=f"compare with {DEFAULT_RULES}")
    if _file_digest(path) != sha256:  # a pipe, or an editor at work: the id would be another file's
        raise ConfigError(f"{path}: was not the same when it was read again", fix="name a file that stays as it is")
    return Rulebook(rules, budgets, sha256)


def _file_digest(path: Path) -> str:
    try:
        return digest.sha256_file(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", fix="name a YAML file of rules") from None


def _fault_lines(error: ConfigError) -> list[str]:
    """The lines of an error after its headline."""
    return error.message.splitlines()[1:]
