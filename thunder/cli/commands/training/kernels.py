"""`thunder kernels selfcheck`: compare this machine's kernels with their references, and time them."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from thunder.errors import RunFailed
from thunder.kernels import dispatch, selfcheck

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def kernels() -> None:
    """Check the kernels for CTC and for test-time training."""


@app.command("selfcheck")
def check(
    backend: Annotated[str, typer.Option(help="auto (all available), metal, cuda or cpu.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcomes as JSON lines.")] = False,
) -> None:
    """Compare kernels with their references over all shapes and print timings; exit code 1 if one differs."""
    failed, count = 0, 0
    for result in selfcheck.run_selfcheck(backend):
        count += 1
        failed += not result.agrees
        print(json.dumps(result.as_dict()) if as_json else format_check(result), flush=True)
    available = ", ".join(dispatch.available_backends())
    if not as_json:
        print(f"{count - failed} of {count} agree with their reference; available backends: {available}")
        if not {"metal", "cuda"} & set(dispatch.available_backends()):
            print("MLX finds no GPU here: the Metal and CUDA kernels were not run")
    if failed:
        raise RunFailed(
            f"{failed} of {count} kernel checks failed",
            'pass backend="reference" to the failing kernel in Python until it is fixed',
        )


def format_check(result: selfcheck.KernelCheck) -> str:
    """One check as a line: verdict, kernel, backend, shape, error, time in ms and speed against the reference."""
    verdict = "ok     " if result.agrees else "FAILURE"
    text = f"{verdict} {result.kernel:9} {result.backend:5} {result.shape}: "
    if result.failure:
        return text + result.failure.splitlines()[0]
    text += f"error {result.error:.1e}"
    if result.seconds is not None and result.reference_seconds is not None:
        ratio = result.reference_seconds / result.seconds
        text += f", {1000 * result.seconds:.1f} ms with gradients, {ratio:.1f} times the reference's speed"
    return text
