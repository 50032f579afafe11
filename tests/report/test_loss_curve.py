"""The course of a run from its metrics: restarts from incidents and from steps that go back, what counts, the best."""

from __future__ import annotations

import pytest

from thunder.report.loss_curve import TRAIN, VALID, BestCheckpoint, build_loss_curve


def report(step, loss, time=None):
    return {"step": step, "loss": loss} | ({} if time is None else {"time": time})


def validation(step, loss, time=None, **more):
    return {"step": step, "valid_loss": loss} | ({} if time is None else {"time": time}) | more


def test_one_attempt():
    found = build_loss_curve(
        [validation(0, 3.0), report(4, 2.5), validation(4, 2.0), report(8, 1.5), validation(8, 2.2)]
    )
    assert [(p.step, p.of, p.attempt, p.lost) for p in found.points] == [
        (0, VALID, 1, False), (4, TRAIN, 1, False), (4, VALID, 1, False), (8, TRAIN, 1, False), (8, VALID, 1, False),
    ]  # fmt: skip
    assert found.restarts == () and found.best == BestCheckpoint(4, 2.0)


def test_an_incident_is_a_restart_though_no_step_goes_back():
    """As a kill at step 6 after the checkpoint of step 4 leaves it."""
    incident = {"time": 15, "kind": "killed", "rank": 1, "host": "mac5"}
    incident |= {"step": 5, "checkpoint": 4, "action": "restart"}
    found = build_loss_curve([report(4, 2.0, 10), report(8, 1.0, 20)], [incident])
    assert [p.attempt for p in found.points] == [1, 2] and not any(p.lost for p in found.points)
    [restart] = found.restarts
    assert (restart.step, restart.checkpoint) == (5, 4)
    assert restart.what == "killed, rank 1 on mac5: restart"


def test_steps_that_were_gone_over_again_are_lost():
    lines = [report(4, 4.0), report(8, 3.0), validation(8, 2.9), report(12, 2.5), report(8, 3.1), report(12, 2.4)]
    found = build_loss_curve(lines)
    assert [(p.step, p.loss) for p in found.points if p.lost] == [(8, 3.0), (8, 2.9), (12, 2.5)]
    assert [p.attempt for p in found.points] == [1, 1, 1, 1, 2, 2]
    [restart] = found.restarts
    assert (restart.step, restart.checkpoint, restart.what) == (12, 8, "resumed")


def test_several_incidents_before_the_next_line_are_several_attempts():
    incidents = [{"time": time, "kind": "hang", "step": 0} for time in (2, 3, 4)]
    found = build_loss_curve([validation(0, 3.0, 1), validation(0, 3.0, 5)], incidents)
    assert [p.attempt for p in found.points] == [1, 4] and len(found.restarts) == 3


def test_a_run_that_never_came_back():
    found = build_loss_curve([report(4, 2.0, 10)], [{"time": 11, "kind": "hang", "action": "stop"}])
    assert [(each.step, each.what) for each in found.restarts] == [(4, "hang: stop")]


def test_what_the_run_calls_its_best_is_the_best():
    found = build_loss_curve([validation(4, 2.0, best_step=2, best_loss=1.9), report(8, 1.0)])
    assert found.best == BestCheckpoint(2, 1.9)


@pytest.mark.parametrize("entry", [
    {}, {"step": "4", "loss": 1.0}, {"step": True, "loss": 1.0}, {"step": 4, "loss": "x"},
    {"step": 4, "loss": float("nan")}, {"step": 4, "loss": None}, {"step": 4, "loss": 10**400},
])  # fmt: skip
def test_lines_that_say_no_loss(entry):
    assert build_loss_curve([entry]).points == ()
