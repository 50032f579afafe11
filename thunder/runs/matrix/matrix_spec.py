"""Describe an experiment: its runs, their regime, the comparisons and the claims."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from thunder import digest
from thunder.config import Settings
from thunder.errors import ConfigError, combined_error
from thunder.runs.records import spec_file

SCHEMA = "thunder.matrix/1"
PLAIN = "baseline"
PARTS = ("train", "val", "test")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
Value = bool | int | float | str | list[str] | None


class MatrixSplit(Settings):
    """The number of rows in each part, the seed of the split, and the parts' digests."""

    train: int = Field(ge=1)
    val: int = Field(ge=0)
    test: int = Field(ge=0)
    seed: int | None = None
    sha256: dict[str, str] = {}


class Snapshot(Settings):
    """The data that all runs share."""

    name: str = Field(min_length=1)
    rows: int = Field(ge=1)
    sha256: str | None = None
    split: MatrixSplit


class MatrixRun(Settings):
    """One condition. flags: its own options, over the regime's. seeds: one run each (default: the regime's).

    hours: estimate for one seed, where it differs from the matrix' own.
    """

    id: str = Field(min_length=1)
    script: str
    mode: str = PLAIN
    flags: dict[str, Value] = {}
    seeds: list[int] = []
    required: bool = True
    hours: float | None = Field(None, gt=0)


class Comparison(Settings):
    """Two runs that differ in one factor: an option, or `mode` (one part of it)."""

    name: str = Field(min_length=1)
    a: str
    b: str
    factor: str


class MatrixClaim(Settings):
    """A claim to be made from a comparison, and the number of seeds that it needs."""

    text: str = Field(min_length=1)
    comparison: str
    min_seeds: int = Field(3, ge=1)


class Budget(Settings):
    """The largest total that all runs together may take."""

    hours: float | None = Field(None, gt=0)
    usd: float | None = Field(None, gt=0)


class Estimate(Settings):
    """The duration of one run, and the price of an hour."""

    hours: float | None = Field(None, gt=0)
    usd_per_hour: float = Field(0.0, ge=0)


class Rehearsal(Settings):
    """A short run of every condition before the long ones; it must leave the complete set of artifacts."""

    iters: int = Field(2, ge=1)
    test_rows: int = Field(4, ge=1)


class Matrix(Settings):
    """The matrix file. regime: options that all runs share; definitions: the file that defines the parts of modes."""

    id: str = Field(min_length=1)
    schema_: Literal["thunder.matrix/1"] = Field(SCHEMA, alias="schema")
    why: str = ""
    snapshot: Snapshot
    regime: dict[str, Value] = {}
    runs: list[MatrixRun] = Field(min_length=1)
    comparisons: list[Comparison] = []
    claims: list[MatrixClaim] = []
    artifacts_required: list[str] = []
    definitions: str | None = None
    budget: Budget = Budget()
    estimate: Estimate = Estimate()
    rehearsal: Rehearsal | None = Rehearsal()


@dataclass(frozen=True)
class MatrixCell:
    """One run with one seed. options: all options that its command gets."""

    id: str
    run: MatrixRun
    seed: int
    options: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """Digest of everything that determines the run."""
        return digest.sha256_json(dict(self.options))

    @property
    def condition(self) -> str:
        """Digest of everything that determines the run except its seed."""
        return digest.sha256_json({key: value for key, value in self.options.items() if key != "seed"})


def read_matrix(path: Path) -> Matrix:
    """Read a matrix. Raises ConfigError where the file is none, or a name cannot be that of a folder."""
    matrix = spec_file.read_spec(Matrix, path)
    names = [matrix.id, *(run.id for run in matrix.runs)]
    if wrong := [f"{name!r}: expected letters, digits, - _ ." for name in names if not _NAME.fullmatch(name)]:
        raise combined_error(ConfigError, f"{path}: invalid names:", wrong, fix="give other names")
    return matrix


def cell_options(matrix: Matrix, run: MatrixRun) -> dict[str, Any]:
    """Return the options of a condition: regime, its own flags, script and mode."""
    return {**matrix.regime, **run.flags, "script": run.script, "mode": run.mode}


def run_seeds(matrix: Matrix, run: MatrixRun) -> list[int]:
    """Return the seeds of a condition."""
    seed = matrix.regime.get("seed", 42)
    return run.seeds or [int(seed) if isinstance(seed, int | float) else 42]


def matrix_cells(matrix: Matrix) -> list[MatrixCell]:
    """Return all runs, condition by condition."""
    cells = []
    for run in matrix.runs:
        seeds = run_seeds(matrix, run)
        for seed in seeds:
            name = run.id if len(seeds) == 1 else f"{run.id}-s{seed}"
            cells.append(MatrixCell(name, run, seed, cell_options(matrix, run) | {"seed": seed}))
    return cells


def folder_name(matrix: Matrix, cell: MatrixCell) -> str:
    """Return the name of a run's folder; it is always the same, so the run is found again."""
    return f"{matrix.id}.{cell.id}"


def cell_arguments(options: Mapping[str, Any]) -> list[str]:
    """Return options as flags, sorted by name; an option that is None keeps its default."""
    words: list[str] = []
    for key, value in sorted(options.items()):
        flag = key.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            words += [word for each in value for word in (f"--{flag}", str(each))]
        elif value is not None:
            words += [f"--{flag}", f"{value!r}" if isinstance(value, float) else str(value)]
    return words


def split_parts(options: Mapping[str, Any]) -> set[str]:
    """Return the parts that a mode consists of, whichever option requested them."""
    on = set(str(options.get("mode") or PLAIN).split("+")) - {PLAIN}
    on |= {"ttt"} if options.get("use_ttt") else set()
    reg = options.get("reg")
    return on | ({str(reg)} if reg and reg != "none" else set())


def differing_options(options_a: Mapping[str, Any], options_b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the options in which two resolved configurations differ, each part of a mode as `mode.PART`.

    Options that only choose what is tested are left out.
    """
    modal = ("mode", "use_ttt", "reg")
    apart = sorted(split_parts(options_a) ^ split_parts(options_b))
    differences: dict[str, tuple[Any, Any]] = {
        f"mode.{part}": (part in split_parts(options_a), part in split_parts(options_b)) for part in apart
    }
    for key in sorted(options_a.keys() | options_b.keys()):
        if key not in (*modal, "hypothesis") and options_a.get(key) != options_b.get(key):
            differences[key] = (options_a.get(key), options_b.get(key))
    return differences


def is_factor(declared: str, name: str) -> bool:
    """Return whether a difference is the declared one of a comparison; `mode` and `use_ttt` name parts of a mode."""
    factor = declared.strip().replace("-", "_")
    return (
        name == factor
        or name == f"mode.{factor.removeprefix('use_')}"
        or (factor == "mode" and name.startswith("mode."))
    )


def run_named(matrix: Matrix, name: str) -> MatrixRun | None:
    """Return the condition with a name."""
    return next((run for run in matrix.runs if run.id == name), None)


def comparison_pairs(matrix: Matrix, comparison: Comparison) -> Sequence[tuple[MatrixCell, MatrixCell]]:
    """Return the pairs of a comparison's cells with equal seeds."""
    by = {(cell.run.id, cell.seed): cell for cell in matrix_cells(matrix)}
    seeds = sorted(
        {seed for run, seed in by if run == comparison.a} & {seed for run, seed in by if run == comparison.b}
    )
    return [(by[comparison.a, seed], by[comparison.b, seed]) for seed in seeds]
