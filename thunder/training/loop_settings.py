"""What the training loop needs to know, whatever it trains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

from pydantic import field_validator

from thunder.config import Settings, option
from thunder.errors import ConfigError
from thunder.units import parse_bytes

LOOP, OPTIMIZER, OUTPUT, PLACE = "Training", "Optimizer", "Output and records", "Where it runs"

# Options of where and how a run is carried out, not of what it computes: they may change when it is resumed.
RUNTIME_OPTIONS = (
    "cluster",
    "ranks",
    "balance",
    "resume",
    "force",
    "skip_link_check",
    "allow_solo",
    "wait_for_hosts",
    "stall_after",
    "probe_rows",
    "run_name",
    "prefix_cache",
    "max_epochs",
    "clear_cache_threshold",
)


class LoopSettings(Settings):
    """Options that every training job has. One iteration is one batch over all ranks, as in mlx_lm."""

    strategy: Literal["data"] = option(
        "data", "How ranks share the work: 'data' = each rank holds the whole model and its own rows.", panel=PLACE
    )
    cluster: str | None = option(
        None,
        "Cluster file, or the name of one in configs/clusters (default: THUNDER_CLUSTER, your own, else local).",
        panel=PLACE,
    )
    ranks: int | None = option(
        None, "Run this many ranks on this machine instead of the cluster file's hosts.", panel=PLACE, ge=1, le=64
    )

    skip_link_check: bool = option(False, "Start although a check of a link failed; recorded in the run.", panel=PLACE)
    allow_solo: float | None = option(
        None,
        "Seconds to wait for a host that is gone before the others go on alone, with the same global batch; "
        "it joins again at the next checkpoint (default: never alone).",
        panel=PLACE,
        ge=0,
    )
    wait_for_hosts: float = option(
        600, "Seconds to wait for a host that is gone before the run ends with exit code 6.", panel=PLACE, ge=0
    )

    stall_after: float = option(
        30,
        "Seconds without progress after which a rank is taken to hang, at least; ten median steps, where that is more.",
        panel=PLACE,
        ge=1,
    )

    balance: Literal["even", "auto"] = option(
        "even",
        "Rows of an update over ranks: 'even', or 'auto' by the speed each rank shows; the result is the same but for "
        "rounding. Where a cluster's chips differ, auto is chosen for you.",
        panel=PLACE,
    )

    iters: int = option(
        1000, "Iterations (batches over all ranks) to train for.", aliases=["num-iters", "max-steps"], panel=LOOP, ge=1
    )
    batch_size: int = option(
        1, "Rows per rank and iteration; the global batch is this times the number of ranks.", panel=LOOP, ge=1
    )
    grad_accumulation_steps: int = option(
        1, "Iterations per optimizer update.", aliases=["gradient-accumulation-steps"], panel=LOOP, ge=1
    )
    max_seq_length: int = option(
        256, "Longest row in tokens; longer ones are cut, and counted.", aliases=["max-seq-len"], panel=LOOP, ge=8
    )
    steps_per_eval: int = option(
        200,
        "Iterations between validations, each over the whole validation set.",
        aliases=["valid-every", "eval-every"],
        panel=LOOP,
        ge=1,
    )
    probe_rows: int = option(
        50,
        "Score so many training rows at each validation, as validation rows are: `thunder memcheck` reads it.",
        panel=OUTPUT,
        ge=0,
    )
    patience: int = option(0, "Stop after this many validations without a better loss; 0 = never.", panel=LOOP, ge=0)
    grad_checkpoint: bool = option(
        False, "Recompute activations in the backward pass: less memory, more time.", panel=LOOP
    )
    seed: int = option(0, "Decides the order of rows, the first LoRA weights and dropout.", panel=LOOP, ge=0, lt=2**31)
    ignore_memory_check: bool = option(
        False,
        "Run a shape that the check before the run calls unsafe: too large for the memory or for Metal's GPU watchdog.",
        old_names=["unsafe_shape"],
        panel=LOOP,
    )

    learning_rate: float = option(1e-5, "Peak learning rate.", aliases=["lr"], panel=OPTIMIZER, gt=0)
    warmup: int = option(
        0, "Optimizer updates of linear warm-up from 0.", aliases=["warmup-steps"], panel=OPTIMIZER, ge=0
    )
    lr_final: float = option(
        0.1, "Where the cosine decay ends, as a share of the peak; 1 = constant rate.", panel=OPTIMIZER, ge=0, le=1
    )
    lr_scheduler_type: Literal["cosine", "linear"] = option(
        "cosine", "Form of the decay after the warm-up.", panel=OPTIMIZER, added_later=True
    )
    weight_decay: float = option(0.01, "AdamW's decoupled weight decay.", panel=OPTIMIZER, ge=0)
    adam_betas: list[float] = option(
        [0.9, 0.999], "AdamW's decay rates of the two moments.", panel=OPTIMIZER, min_length=2, max_length=2
    )
    adam_eps: float = option(
        1e-8,
        "AdamW's epsilon, added to the root of the second moment.",
        aliases=["adam-epsilon"],
        panel=OPTIMIZER,
        added_later=True,
        gt=0,
    )
    max_grad_norm: float = option(1.0, "Clip the gradient's norm to this; 0 = never.", panel=OPTIMIZER, ge=0)

    clear_cache_threshold: str | None = option(
        None,
        "Free the allocator's unused memory after each update that leaves more than this, such as 2GB, as in mlx_lm "
        "(default: free it at each report).",
        panel=PLACE,
        added_later=True,
    )
    steps_per_report: int = option(10, "Iterations between reports.", aliases=["log-every"], panel=OUTPUT, ge=1)
    save_every: int = option(100, "Iterations between checkpoints.", panel=OUTPUT, ge=1)
    resume: str | None = option(
        None, "Continue a run from its newest checkpoint: its id, its folder, or 'latest'.", panel=OUTPUT
    )

    run_name: str | None = option(
        None,
        "Name of the run's folder (default: date, time, and what it is).",
        panel=OUTPUT,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$",
    )

    hypothesis: str | None = option(
        None,
        "File of the frozen hypothesis that this run is to test; its digest is logged before anything is trained.",
        panel=OUTPUT,
    )

    force: bool = option(
        False,
        "With --resume: go on although options, rows or base weights have changed; the run records what has.",
        panel=OUTPUT,
    )

    logs_epochs: ClassVar[bool] = False
    """Whether each new epoch is a line of the log: for tasks that run few of them."""

    def digest(self) -> str:
        """SHA-256 of the values that decide what is computed."""
        return self.digest_without(RUNTIME_OPTIONS)

    def updates(self, iterations: int) -> int:
        """How many optimizer updates so many iterations are; a last incomplete accumulation still makes one."""
        return -(-iterations // self.grad_accumulation_steps)

    @property
    def total_updates(self) -> int:
        """Optimizer updates of the whole run."""
        return self.updates(self.iters)

    @property
    def bias_correction(self) -> bool:
        """Whether AdamW corrects its moments, as torch's does and mlx_lm's does not by default."""
        return False

    @field_validator("clear_cache_threshold")
    @classmethod
    def _is_a_size(cls, value: str | None) -> str | None:
        if value is not None:
            parse_bytes(value)
        return value

    @property
    def may_recompute(self) -> bool:
        """Whether activations can be computed again in the backward pass with the same result."""
        return True


AnyLoopSettings = TypeVar("AnyLoopSettings", bound=LoopSettings)


@dataclass(frozen=True)
class RuntimeOverrides:
    """How one attempt of a run is carried out. It does not change what is computed: no part of the settings' digest.

    planned_ranks: the ranks that the global batch is made for, 0 for those that there are; fewer accumulate more.
    micro_batch_size: rows that go through the model at once, 0 for the settings' batch size.
    grad_checkpoint: recompute activations though the settings do not ask for it.
    force: take a checkpoint that was made with another fingerprint.
    """

    planned_ranks: int = 0
    micro_batch_size: int = 0
    grad_checkpoint: bool = False
    force: bool = False

    def ranks(self, size: int) -> int:
        """The ranks that the global batch is made for, in a world of this size."""
        return self.planned_ranks or size

    def rows_at_once(self, settings: LoopSettings) -> int:
        """Rows that go through the model at once."""
        return self.micro_batch_size or settings.batch_size

    def for_task(self, settings: AnyLoopSettings) -> AnyLoopSettings:
        """The settings as the model's own machine sees them: validation is cut like training."""
        return settings.model_copy(
            update={
                "batch_size": self.rows_at_once(settings),
                "grad_checkpoint": settings.grad_checkpoint or self.grad_checkpoint,
            }
        )


NO_OVERRIDES = RuntimeOverrides()


def planned_epochs(updates: int, rows: int, global_batch: int) -> float:
    """Epochs over `rows` that so many updates make; as the loop counts them, a last short batch is an update too."""
    return updates / -(-rows // global_batch)


def iterations_of_epochs(epochs: float, rows: int, global_batch: int, accumulation: int = 1) -> int:
    """Iterations that make so many epochs over `rows`, as the loop counts them: a last short batch is an update too."""
    updates = math.ceil(epochs * -(-rows // (global_batch * accumulation)) - 1e-9)
    return max(1, updates) * accumulation


def late_warmup(settings: LoopSettings) -> str:
    """A note where the warm-up does not end before the run does; empty elsewhere."""
    warmup, total = settings.warmup, settings.total_updates
    if warmup < total or not warmup:
        return ""
    reached = f"{settings.learning_rate * total / warmup:g} of {settings.learning_rate:g}"
    return (
        f"warning: a warm-up of {warmup} updates in a run of {total}: the rate only rises, to {reached}; "
        "a shorter --warmup, or a longer run"
    )


def check_max_epochs(epochs: float, most: int, iters: int) -> None:
    """Raise ConfigError where a run would make more than `most` epochs."""
    if epochs > most:
        raise ConfigError(
            f"iters {iters} make {epochs:.2f} epochs over the training rows, more than max_epochs {most}",
            fix="fewer --iters, more rows, or a higher --max-epochs",
        )
