"""The choice of a backend: by name or the best present, absence named, each choice logged once."""

from __future__ import annotations

import logging

import mlx.core as mx
import pytest

from thunder.errors import UsageError
from thunder.kernels import dispatch

CASES = [  # available, unsupported, requested -> chosen
    (("metal", "cpu", "reference"), {}, "auto", "metal"),
    (("metal", "cpu", "reference"), {"metal": "too wide"}, "auto", "cpu"),
    (("cpu", "reference"), {"cpu": "traced"}, "auto", "reference"),
    (("cuda", "reference"), {}, "auto", "cuda"),
    (("cuda", "reference"), {}, "cuda", "cuda"),
    (("metal", "cpu", "reference"), {}, "reference", "reference"),
    (("metal", "cpu", "reference"), {}, "cpu", "cpu"),
]


@pytest.mark.parametrize(("available", "unsupported", "requested", "chosen"), CASES)
def test_the_choice(available, unsupported, requested, chosen, monkeypatch):
    monkeypatch.setattr(dispatch, "available_backends", lambda: available)
    assert dispatch.choose_backend(requested, "some", unsupported) == chosen


@pytest.mark.parametrize("absent", ["metal", "cuda", "cpu"])
def test_asking_for_what_is_absent_is_an_error_by_name(absent, monkeypatch):
    monkeypatch.setattr(dispatch, "available_backends", lambda: ("reference",))
    with pytest.raises(UsageError, match=f"some: no backend can run: {absent}: {dispatch.ABSENCE_REASONS[absent]}"):
        dispatch.choose_backend(absent, "some")


def test_asking_for_what_is_refused_gives_the_reason_and_a_stranger_the_names(monkeypatch):
    monkeypatch.setattr(dispatch, "available_backends", lambda: ("metal", "reference"))
    with pytest.raises(UsageError, match="D = 40"):
        dispatch.choose_backend("metal", "some", {"metal": "D = 40 is odd"})
    with pytest.raises(UsageError, match="no backend 'gpu'") as raised:
        dispatch.choose_backend("gpu", "some")
    assert "reference" in raised.value.fix


def test_each_choice_is_logged_once_with_its_reason(monkeypatch, caplog):
    monkeypatch.setattr(dispatch, "available_backends", lambda: ("metal", "reference"))
    dispatch.log_choice.cache_clear()
    with caplog.at_level(logging.INFO, "thunder.kernels"):
        for _ in range(3):
            dispatch.choose_backend("auto", "some", {"metal": "too wide"})
        dispatch.choose_backend("auto", "some")
    assert caplog.messages == [
        "some runs on reference (metal: too wide)",
        "some runs on metal (best available backend)",
    ]


def test_nothing_is_promised_for_a_gpu_when_the_default_device_is_the_cpu(monkeypatch):
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.cpu))
    assert "metal" not in dispatch.available_backends()
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    assert dispatch.available_backends()[0] == "metal"


def test_arrays_are_evaluated_only_for_the_cpus_program(monkeypatch):
    monkeypatch.setattr(dispatch, "is_traced", lambda *values: pytest.fail("evaluated"))
    for here in (("metal", "cpu", "reference"), ("reference",)):
        monkeypatch.setattr(dispatch, "available_backends", lambda here=here: here)
        dispatch.choose_backend("auto", "some", values=[mx.ones(3)])
        dispatch.choose_backend("reference", "some", values=[mx.ones(3)])


def test_traced_arrays_are_told_from_plain_ones():
    results = []

    def record(x):
        results.append(dispatch.is_traced(x))
        return (x * 2).sum()

    record(mx.ones(3))
    mx.grad(record)(mx.ones(3))
    mx.compile(record)(mx.ones(3))
    mx.compile(mx.grad(record))(mx.ones(3))
    assert results == [False, False, True, True]
