"""`thunder rank`: one rank of a run, started by the launcher on every host with the run's folder as its argument."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thunder.launcher.rank_jobs.rank_process import run_rank
from thunder.training.loop_settings import RuntimeOverrides

app = typer.Typer(add_completion=False)


@app.command()
def rank(
    folder: Annotated[Path, typer.Argument(help="The run's folder.")],
    job: str = "train",
    micro_batch_size: Annotated[int, typer.Option(min=0, help="Rows at once; 0 = the batch size.")] = 0,
    grad_checkpoint: Annotated[bool, typer.Option("--grad-checkpoint", help="Recompute activations.")] = False,
    planned_ranks: Annotated[int, typer.Option(min=0, help="Ranks that the global batch is made for.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Take a checkpoint with another fingerprint.")] = False,
) -> None:
    """Join the ring, train, test; used by the launcher, not by people."""
    run_rank(folder, job, RuntimeOverrides(planned_ranks, micro_batch_size, grad_checkpoint, force))
