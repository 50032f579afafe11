"""Rows and tables of training for tests: five fine epochs, some of their values changed."""

from __future__ import annotations

from dataclasses import replace

from thunder.evaluation.claims.training_table import TrainingRow, TrainingTable


def row(epoch, **changes):
    fine = TrainingRow(epoch, step=epoch * 10, running=2 - 0.1 * epoch, probe=1.9 - 0.1 * epoch, probe_se=0.01,
               val=2.1 - 0.1 * epoch, val_se=0.01, lr=1e-3, wall=1.0, grad=1.0, wraps=0.2 * (epoch + 1))  # fmt: skip
    return replace(fine, **changes)


def table(**changes):
    """Five fine epochs, the last of them changed."""
    return TrainingTable([*(row(number) for number in range(4)), row(4, **changes)], planned=1.0)
