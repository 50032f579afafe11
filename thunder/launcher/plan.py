"""The plan of a run, typed: plan.json, the table on the screen and `--json` all come from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thunder.errors import ArtifactError
from thunder.runs.records import run_record
from thunder.runs.records.registry import PLAN


class PlanPart(BaseModel):
    """Base of all parts: frozen, and no key that is not declared; what was not set is not written."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """The keys that were set, as JSON types."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    @classmethod
    def of_another_version(cls, values: Any) -> Self:
        """From JSON that an earlier or later version wrote: keys that this version does not know are dropped.

        Raises pydantic's ValidationError where a known key has a value of the wrong kind.
        """
        return cls.model_validate(values, extra="ignore")


class ClusterPart(PlanPart):
    """Where the run goes, and why there."""

    name: str
    reason: str
    ranks: int


class BatchPart(PlanPart):
    """Rows of an iteration on one rank and on all, and of an optimizer update."""

    per_rank: int
    global_: int = Field(alias="global")
    grad_accumulation_steps: int
    rows_per_update: int


class LengthPart(PlanPart):
    """Length of the run. epochs: None where the number of rows is not known before the ranks start."""

    iterations: int
    updates: int
    epochs: float | None = None


class ModelPart(PlanPart):
    """The base model. size: model dimensions for the memory and watchdog estimate; None if config.json lacks them.

    template: source of the chat template. chat_template_config: its switches. generation_path: the folder from which
    mlx_lm generates with the training prompt.
    """

    name: str = ""
    source: str = ""
    path: str = ""
    type: str | None = None
    layers: int = 0
    size: dict[str, Any] | None = None
    template: str = ""
    chat_template_config: dict[str, Any] = Field(default_factory=dict)
    generation_path: str = ""
    sha256: str = ""
    bytes: int | None = None


class EnginePart(PlanPart):
    """The engine of the training step, and why it was chosen."""

    name: str
    reason: str = ""


class RowCounts(PlanPart):
    """Rows and tokens of the training or validation part.

    supervised_share: supervised tokens over all tokens. most_supervised_tokens: the maximum in one row.
    prompts_unlike: 0 since rows are made from prompts; plans of version 0.1.0 count rows there.
    control_token_rows: rows whose texts name control tokens of the model, which are tokenized as text.
    """

    rows: int
    tokens: int | None = None
    supervised_tokens: int | None = None
    supervised_share: float | None = None
    most_supervised_tokens: int | None = None
    prompts_unlike: int = 0
    control_token_rows: int = 0
    control_token_sources: list[str] = Field(default_factory=list)
    rows_cut_at_limit: int = 0
    rows_left_out: int = 0
    left_out_sources: list[str] = Field(default_factory=list)


class DataPart(PlanPart):
    """The rows of a run.

    sha256: digest for each file or part. lines: number of lines for each part, of a pretraining run. files: path of
    each part on another host.
    """

    train: RowCounts | None = None
    valid: RowCounts | None = None
    test_rows: int | None = None
    notes: list[str] = Field(default_factory=list)
    sha256: dict[str, str] | None = None
    lines: dict[str, int] | None = None
    files: dict[str, str] | None = None


class ShapePart(PlanPart):
    """Whether the chips can train the job's shape; see thunder.training.shapes.shape_safety.ShapeVerdict."""

    verdict: str
    reason: str
    chip: str
    nearest_safe: dict[str, Any] | None = None
    part: str | None = None
    buffer_seconds: float | None = None
    step_seconds: float | None = None
    peak_bytes: float | None = None
    figures: str | None = None


class MachinePart(PlanPart):
    """Memory of a host in bytes, and its measured speeds, if any."""

    memory: int | None = None
    measured: Any = None


class RankPart(PlanPart):
    """What one rank is started with."""

    rank: int
    host: str
    address: str
    command: list[str]
    env: dict[str, str]


class JobFacts(PlanPart):
    """What one kind of job adds to its plan: read from disk here, or by a survey on the job's hosts."""

    model: ModelPart | None = None
    engine: EnginePart | None = None
    data: DataPart | None = None
    acoustic: dict[str, Any] | None = None
    shape: ShapePart | None = None
    machines: list[MachinePart] | None = None
    chips: list[str] | None = None
    skipped_checks: list[str] | None = None


class Plan(JobFacts):
    """Everything that is decided before a run's ranks are started.

    hypothesis: reference to the frozen hypothesis file that the run tests. environment: notes on what each rank's
    environment will be.
    """

    job: str
    run: str
    cluster: ClusterPart
    batch: BatchPart
    length: LengthPart
    hypothesis: dict[str, Any] | None = None
    environment: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    settings: dict[str, Any]
    sources: dict[str, str] = Field(default_factory=dict)
    ranks: list[RankPart]


def read_plan(folder: Path) -> Plan:
    """The plan that a run was started with, by this version or an earlier one.

    Raises ArtifactError where it is missing or damaged.
    """
    path = folder / PLAN
    fix = f"start a new run with -c {folder / run_record.CONFIG}"
    try:
        return Plan.of_another_version(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{path}: '{where}': {first['msg']}", fix=fix) from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: {error}", fix=fix) from None
