"""The choice of a backend: by name or the best present, absence named, each choice logged once."""

from __future__ import annotations

import logging

import mlx.core as mx
import pytest

from thunder.errors import UsageError
from thunder.kernels import dispatch

TABLE = [  # present, refused, asked for -> chosen
    (("metal", "cpu", "reference"), {}, "auto", "metal"),
    (("metal", "cpu", "reference"), {"metal": "too wide"}, "auto", "cpu"),
    (("cpu", "reference"), {"cpu": "traced"}, "auto", "reference"),
    (("cuda", "reference"), {}, "auto", "cuda"),
    (("cuda", "reference"), {}, "cuda", "cuda"),
    (("metal", "cpu", "reference"), {}, "reference", "reference"),
    (("metal", "cpu", "reference"), {}, "cpu", "cpu"),
]


@pytest.mark.parametrize(("present", "refused", "wanted", "chosen"), TABLE)
def test_the_choice(present, refused, wanted, chosen, monkeypatch):
    monkeypatch.setattr(dispatch, "present", lambda: present)
    assert dispatch.choose(wanted, "some", refused) == chosen


@pytest.mark.parametrize("absent", ["metal", "cuda", "cpu"])
def test_asking_for_what_is_absent_is_an_error_by_name(absent, monkeypatch):
    monkeypatch.setattr(dispatch, "present", lambda: ("reference",))
    with pytest.raises(UsageError, match=f"some: no backend can run: {absent}: {dispatch.ABSENT[absent]}"):
        dispatch.choose(absent, "some")


def test_asking_for_what_is_refused_gives_the_reason_and_a_stranger_the_names(monkeypatch):
    monkeypatch.setattr(dispatch, "present", lambda: ("metal", "reference"))
    with pytest.raises(UsageError, match="D = 40"):
        dispatch.choose("metal", "some", {"metal": "D = 40 is odd"})
    with pytest.raises(UsageError, match="no backend 'gpu'") as told:
        dispatch.choose("gpu", "some")
    assert "reference" in told.value.fix


def test_each_choice_is_logged_once_with_its_reason(monkeypatch, caplog):
    monkeypatch.setattr(dispatch, "present", lambda: ("metal", "reference"))
    dispatch.say.cache_clear()
    with caplog.at_level(logging.INFO, "thunder.kernels"):
        for _ in range(3):
            dispatch.choose("auto", "some", {"metal": "too wide"})
        dispatch.choose("auto", "some")
    assert caplog.messages == ["some runs on reference (metal: too wide)", "some runs on metal (the best one here)"]


def test_nothing_is_promised_for_a_gpu_when_the_default_device_is_the_cpu(monkeypatch):
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.cpu))
    assert "metal" not in dispatch.present()
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    assert dispatch.present()[0] == "metal"


def test_arrays_are_evaluated_only_for_the_cpus_program(monkeypatch):
    monkeypatch.setattr(dispatch, "traced", lambda *values: pytest.fail("evaluated"))
    for here in (("metal", "cpu", "reference"), ("reference",)):
        monkeypatch.setattr(dispatch, "present", lambda here=here: here)
        dispatch.choose("auto", "some", values=[mx.ones(3)])
        dispatch.choose("reference", "some", values=[mx.ones(3)])


def test_traced_arrays_are_told_from_plain_ones():
    seen = []

    def note(x):
        seen.append(dispatch.traced(x))
        return (x * 2).sum()

    note(mx.ones(3))
    mx.grad(note)(mx.ones(3))
    mx.compile(note)(mx.ones(3))
    mx.compile(mx.grad(note))(mx.ones(3))
    assert seen == [False, False, True, True]
