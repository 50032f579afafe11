"""`thunder kernels selfcheck`: do this machine's kernels compute what their references mean, and how fast?"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from thunder.errors import RunFailed
from thunder.kernels import dispatch, selfcheck

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def kernels() -> None:
    """Look at the kernels for CTC and for test-time training."""


@app.command("selfcheck")
def check(
    backend: Annotated[str, typer.Option(help="auto (all that are here), metal, cuda or cpu.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcomes as JSON lines.")] = False,
) -> None:
    """Compare kernels with their references over all shapes and print timings; exit code 1 where one differs."""
    failed, count = 0, 0
    for outcome in selfcheck.outcomes(backend):
        count += 1
        failed += not outcome.fine
        print(json.dumps(asdict(outcome)) if as_json else line_of(outcome), flush=True)
    here = ", ".join(dispatch.present())
    if not as_json:
        print(f"{count - failed} of {count} agree with their reference; backends here: {here}")
        if not {"metal", "cuda"} & set(dispatch.present()):
            print("no GPU that MLX can use here: the Metal and CUDA texts were not run")
    if failed:
        raise RunFailed(
            f"{failed} of {count} kernel checks failed", "train with --backend reference until it is mended"
        )


def line_of(outcome: selfcheck.Outcome) -> str:
    """One outcome as a line: verdict, where, what, how far off, how long."""
    verdict = "ok     " if outcome.fine else "FAILURE"
    text = f"{verdict} {outcome.kernel:9} {outcome.backend:5} {outcome.shape}: "
    if outcome.said:
        return text + outcome.said.splitlines()[0]
    text += f"error {outcome.error:.1e}"
    if outcome.seconds is not None and outcome.reference_seconds is not None:
        ratio = outcome.reference_seconds / outcome.seconds
        text += f", {1000 * outcome.seconds:.1f} ms with gradients, {ratio:.1f} times the reference's speed"
    return text
