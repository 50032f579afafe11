"""CTC on the CPU: the numba program is refused inside a compiled step."""

from __future__ import annotations

import importlib.util

import ctc_oracle as oracle
import mlx.core as mx
import pytest

from thunder.errors import UsageError
from thunder.kernels.ctc import ctc_loss

CPU = pytest.param(
    "cpu", marks=pytest.mark.skipif(not importlib.util.find_spec("numba"), reason="numba is not installed")
)


@pytest.mark.parametrize("backend", [CPU])
def test_the_cpus_program_asked_for_in_a_compiled_step_is_refused(backend):
    arrays = list(map(mx.array, oracle.random_batch(15, 3, 25, 4, 6)))
    with pytest.raises(UsageError, match="mx.compile"):
        mx.compile(lambda *some: ctc_loss(*some, backend=backend))(*arrays)
