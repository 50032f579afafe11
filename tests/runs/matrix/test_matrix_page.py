"""Pages of a matrix: runs that cannot be compared are in a section of their own."""

from __future__ import annotations

from planted_matrix import how, little

from thunder.runs.matrix import matrix_driver, matrix_page
from thunder.runs.matrix.matrix_status import MatrixLedger


def test_what_may_not_be_compared_stands_apart(tmp_path):
    made = [
        {"id": "plain", "script": "nko"},
        {"id": "slow", "script": "nko", "mode": "trajectory", "flags": {"dropout": 0.5}},
    ]
    comparisons = [{"name": "both", "a": "plain", "b": "slow", "factor": "mode"}]
    ledger = MatrixLedger(tmp_path, little(runs=made, comparisons=comparisons))
    states = matrix_driver.run_matrix(ledger, how(tmp_path, rehearse=False))
    for page in (
        matrix_page.matrix_html(ledger.plan, states, ledger.folder),
        matrix_page.matrix_markdown(ledger.plan, states),
    ):
        assert "Not comparable" in page and "Comparisons</h2>" not in page and "## Comparisons" not in page
        assert "not stated" in page and "dropout (0.1 vs 0.5)" in page
