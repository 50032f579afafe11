"""`thunder shapes`: the shapes that a chip can train, with the time and memory of a step, by calculation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer

from thunder.cli.console.output import say
from thunder.errors import ModelError, UsageError
from thunder.launcher import shape_check
from thunder.launcher.options.setting_paths import state_folder
from thunder.runs.records import environment
from thunder.training.shapes import chips, model_size, shape_safety
from thunder.training.shapes.chips import Chip
from thunder.training.shapes.model_size import ModelSize
from thunder.training.shapes.shape_safety import TrainingShape
from thunder.units import format_bytes, format_seconds

app = typer.Typer(add_completion=False)
BATCHES, LAYERS, LENGTHS = (1, 2, 4, 8), (1, 4, 8, 16), (128, 256, 512, 1024, 2048)
WAYS = ("plain", "supervised")
E2B = "gemma-4-e2b"


@app.command()
def shapes(
    model: Annotated[str | None, typer.Option(help=f"Folder or repository (default: the sizes of {E2B}).")] = None,
    chip: Annotated[str | None, typer.Option(help="Such as M4 or 'M4 Pro' (default: this machine's, else M4).")] = None,
    memory_gb: Annotated[
        float | None, typer.Option(min=1, help="Memory of that machine in GiB (default: this one's, for its own chip).")
    ] = None,
    lora_rank: Annotated[int, typer.Option(min=1, help="Rank of the LoRA matrices.")] = 8,
    grad_checkpoint: Annotated[bool, typer.Option("--grad-checkpoint", help="Recompute activations.")] = False,
    way: Annotated[
        str, typer.Option(help="plain: all positions everywhere; supervised: the head only where supervised.")
    ] = "plain",
    supervised_share: Annotated[float, typer.Option(min=0, max=1, help="Of a row's positions, at the most.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print all shapes as one JSON object.")] = False,
) -> None:
    """Print the table of shapes: safe, likely or unsafe, with memory and seconds a step. Nothing is run."""
    if way not in WAYS:
        raise UsageError(f"--way {way}: expected {' or '.join(WAYS)}", fix="--way plain")
    name, size, sha256 = size_of(model)
    chosen, memory = chip_and_memory(chip, memory_gb)
    past = shape_check.past_incidents(chosen.name, sha256)
    rows = []
    for batch, layers, length in combinations(len(size.layers)):
        shape = TrainingShape(batch, layers, length, lora_rank, grad_checkpoint, way, supervised_share)  # type: ignore[arg-type]
        rows.append((shape, shape_safety.shape_verdict(size, shape, chosen, memory, past)))
    if as_json:
        report = {"model": name, "chip": asdict(chosen), "memory": memory, "watchdog_seconds": shape_safety.WATCHDOG}
        say(json.dumps(report | {"shapes": [asdict(s) | asdict(verdict) for s, verdict in rows]}, ensure_ascii=False))
        return
    shown = f", {memory / 2**30:.0f} GiB of memory" if memory else ""
    say(f"{name} on {chosen.name}{shown} ({chosen.source}); {way}, LoRA rank {lora_rank}")
    for line in table({(s.batch_size, s.num_layers, s.max_seq_length): verdict for s, verdict in rows}):
        say(line)


def size_of(model: str | None) -> tuple[str, ModelSize, str]:
    """(name, size, digest of the weights where they are here) of a model.

    Raises ModelError where its config does not say enough.
    """
    if model is None:
        return E2B, shape_safety.E2B, ""
    from thunder.lora import base_model as base

    folder = base.find_base_model(model)
    size = model_size.model_size_from_config(base.read_model_config(folder))
    if size is None:
        raise ModelError(f"{folder}: its config.json does not say enough to calculate with", fix="another --model")
    return model, size, base.base_digest(folder, base.digest_cache_path())


def chip_and_memory(name: str | None, memory_gb: float | None) -> tuple[Chip, int | None]:
    """The requested chip and its memory in bytes; None where the memory of another machine is not given."""
    known, here = chips.known_chips(chips.read_measured_chips(state_folder())), environment.chip_name()
    chosen = chips.find_chip(name, known) if name else known.get(here, known[shape_check.STAND_IN])
    if memory_gb is not None:
        return chosen, int(memory_gb * 2**30)
    return chosen, shape_check.local_memory() if chosen.name == here else None


def combinations(layers: int) -> Iterator[tuple[int, int, int]]:
    """(batch, layers, length) of the table."""
    for batch in BATCHES:
        for count in dict.fromkeys([*(each for each in LAYERS if each < layers), layers]):
            for length in LENGTHS:
                yield batch, count, length


def table(verdicts: dict[tuple[int, int, int], Any]) -> Iterator[str]:
    """A line for each batch and number of layers, a column for each length: verdict, seconds a step, memory."""
    yield f"{'batch':>5} {'layers':>6}  " + "".join(f"{f'{length} tokens':26}" for length in LENGTHS)
    for batch, layers in dict.fromkeys((batch, layers) for batch, layers, _ in verdicts):
        row = [verdicts[batch, layers, length] for length in LENGTHS]
        cells = [f"{v.verdict:6} {format_seconds(v.step_seconds)}, {format_bytes(v.peak_bytes)}" for v in row]
        yield f"{batch:5} {layers:6}  " + "".join(f"{cell:26}" for cell in cells).rstrip()
