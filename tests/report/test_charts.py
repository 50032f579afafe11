"""Charts of a page: the loss by step, with what was lost as a branch of its line."""

from __future__ import annotations

import json

from thunder.report import charts
from thunder.report.loss_curve import build_loss_curve


def report(step, loss, time=None):
    return {"step": step, "loss": loss} | ({} if time is None else {"time": time})


def test_what_is_lost_is_drawn_as_a_branch_of_the_line():
    found = charts.loss_chart(
        build_loss_curve([report(4, 4.0), report(8, 3.0), report(12, 2.5), report(8, 3.1), report(12, 2.4)])
    )
    [values] = {json.dumps(each["data"]["values"]) for each in found["layer"] if "of" in each["data"]["values"][0]}
    lines = {}
    for each in json.loads(values):
        lines.setdefault((each["part"], each["lost"]), []).append((each["step"], each["loss"]))
    assert lines == {
        ("training", False): [(4, 4.0), (8, 3.1), (12, 2.4)],
        ("training lost 1", True): [(4, 4.0), (8, 3.0), (12, 2.5)],
    }
