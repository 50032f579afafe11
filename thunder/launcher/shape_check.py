"""Check that the chips of all hosts of a job can train its shape; the launcher checks while it plans."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass

from thunder.cluster.ranks import oom_fallbacks
from thunder.errors import UsageError
from thunder.launcher.job import Job, Placement
from thunder.launcher.options.setting_paths import state_folder
from thunder.launcher.plan import JobFacts, MachinePart, ShapePart
from thunder.lora.lora_settings import LoraSettings
from thunder.runs.records import environment
from thunder.training.shapes import chips, model_size, shape_safety
from thunder.training.shapes.chips import Chip
from thunder.training.shapes.shape_safety import GpuIncident, ShapeVerdict, TrainingShape

STAND_IN = "Apple M4"  # used for a chip without figures: the slower of the two chips with known shapes


@dataclass(frozen=True)
class Machine:
    """A host's chip by name, its figures (a stand-in's where it has none), and its bytes of memory for each rank."""

    name: str
    chip: Chip
    memory: int | None


def local_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def shape_of(settings: LoraSettings, layers: int, facts: JobFacts) -> TrainingShape:
    """The shape of the settings, for a model with so many layers. facts: engine and rows of the job."""
    train = facts.data.train if facts.data else None
    most = train.most_supervised_tokens if train else None
    most = settings.max_seq_length if most is None else most
    return TrainingShape(
        batch_size=settings.batch_size,
        num_layers=layers if settings.num_layers == -1 else settings.num_layers,
        max_seq_length=settings.max_seq_length,
        lora_rank=settings.lora_rank,
        grad_checkpoint=settings.grad_checkpoint,
        path="plain" if facts.engine is None or facts.engine.name == "plain" else "supervised",
        supervised_share=min(1.0, most / settings.max_seq_length),
    )


def machines_of_job(job: Job, placement: Placement) -> list[Machine]:
    """The different machines of a job."""
    ranks = Counter(host.ssh for host in placement.cluster.hosts)
    measured = chips.read_measured_chips(state_folder()).get(environment.chip_name())
    here = MachinePart(memory=local_memory(), measured=measured)
    names = job.facts.chips or [environment.chip_name()] * placement.ranks
    reports = job.facts.machines or [here] * placement.ranks
    machines = {}
    for host, name, report in zip(placement.cluster.hosts, names, reports, strict=True):
        known = chips.known_chips({name: report.measured} if report.measured else {})
        memory = report.memory // ranks[host.ssh] if name in known and report.memory else None
        machines[name, memory] = Machine(name, known.get(name, known[STAND_IN]), memory)
    return list(machines.values())


def past_incidents(chip: str, model: str) -> list[GpuIncident]:
    """Earlier GPU incidents of this chip with a model, from the stored fallbacks."""
    return [
        GpuIncident(run, each.batch_size, each.num_layers, each.max_seq_length, each.grad_checkpoint)
        for run, each in oom_fallbacks.chip_incidents(state_folder(), chip, model)
    ]


def check_shape(job: Job, placement: Placement) -> ShapePart:
    """The plan's part on a job's shape: the worst of the verdicts on its hosts.

    Raises UsageError for an unsafe shape on chips whose system kills long commands. It does not with
    `--ignore-memory-check`, or where the run starts with a smaller fallback because this shape was killed before.
    """
    settings, model = job.settings, job.facts.model
    assert isinstance(settings, LoraSettings) and model is not None
    if not model.size:
        reason = "the model's config does not say enough to calculate with"
        return ShapePart(verdict="likely", chip=STAND_IN, reason=reason, nearest_safe=None)
    size = model_size.model_size_from_dict(model.size)
    shape = shape_of(settings, len(size.layers), job.facts)
    machines = machines_of_job(job, placement)
    verdicts = []
    for each in machines:
        incidents = past_incidents(each.name, str(model.sha256))
        verdicts.append((each, shape_safety.judge_shape(size, shape, each.chip, each.memory, incidents)))
    machine, worst = max(
        verdicts, key=lambda each: (shape_safety.SAFETY_LEVELS.index(each[1].verdict), each[1].buffer_seconds)
    )
    remembered = (exact := gpu_shape(job)) is not None and oom_fallbacks.remembered_fallback(state_folder(), exact)[0]
    if (
        machine.name == machine.chip.name
        and machine.chip.has_watchdog
        and not (settings.ignore_memory_check or remembered)
    ):
        refuse_unsafe(shape, worst, machine.name)
    return ShapePart(**asdict(worst), chip=machine.chip.name, figures=machine.chip.source)


def gpu_shape(job: Job) -> oom_fallbacks.WorkloadShape | None:
    """The key under which GPU incidents of the job are stored; None for a job without a base model."""
    if job.facts.model is None:
        return None
    settings = job.settings
    return oom_fallbacks.WorkloadShape(
        chips=oom_fallbacks.distinct_chips(job.facts.chips or [environment.chip_name()]),
        model=str(job.facts.model.sha256),
        batch_size=settings.batch_size,
        num_layers=int(settings.resolved().get("num_layers", 0)),
        max_seq_length=settings.max_seq_length,
        grad_checkpoint=settings.grad_checkpoint,
    )


def refuse_unsafe(shape: TrainingShape, found: ShapeVerdict, chip: str) -> None:
    """Raises UsageError that says why a shape is unsafe, and the nearest that is safe."""
    if found.verdict != "unsafe":
        return
    near = found.nearest_safe
    smaller = shape_safety.shape_flags(near) if near else "a smaller or quantised --model"
    raise UsageError(
        f"{shape} on {chip}: {found.reason}", fix=f"{smaller}, or --ignore-memory-check if you know better"
    )
