"""Tables of training read from a run's logs."""

from __future__ import annotations

import json

from thunder.evaluation.claims import training_table


def test_a_resumed_run_counts_its_later_lines(tmp_path):
    lines = [{"step": 0, "valid_loss": 9.0, "time": 0.0}]
    for step in (10, 20, 10, 20, 30):
        lines += [
            {"step": step, "loss": 5.0 - len(lines), "learning_rate": 1.0},
            {"step": step, "valid_loss": 1.0 * len(lines)},
        ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = training_table.read_training_table(tmp_path)
    assert [(one.step, one.val) for one in read.rows] == [(10, 5.0), (20, 7.0), (30, 9.0)]
    assert read.before.val == 9.0
