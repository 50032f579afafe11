"""Shapes downwards, and the memory of them."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder import digest
from thunder.cluster.ranks import oom_fallbacks
from thunder.cluster.ranks.oom_fallbacks import (
    INCIDENT_FILE,
    Fallback,
    WorkloadShape,
    distinct_chips,
    fallback_sequence,
    record_incident,
    remembered_fallback,
)

SHAPE = WorkloadShape(("M4", "M5"), "abc", 4, 8, 256, False)


@settings(max_examples=60)
@given(st.integers(1, 300), st.booleans())
def test_every_rung_asks_for_less_and_the_batch_can_be_cut_so(batch, grad_checkpoint):
    steps = fallback_sequence(batch, grad_checkpoint)
    assert steps[0] == Fallback(batch, grad_checkpoint=grad_checkpoint)
    sizes = [rung.micro_batch_size for rung in steps]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] == 1 and len(set(steps)) == len(steps)
    limits = [rung.ops_per_buffer for rung in steps if rung.ops_per_buffer is not None]
    assert limits == sorted(limits, reverse=True) and limits
    assert steps[-1].grad_checkpoint and all(rung.micro_batch_size == 1 for rung in steps if rung.env)
    # what a rank is told beside these stays: the rows of an update are its share in parts of this size at most
    assert all("--batch-size" not in rung.arguments for rung in steps)


@pytest.mark.parametrize("batch", [1, 4, 7])
def test_nothing_is_recomputed_where_that_would_be_another_function(batch):
    assert fallback_sequence(batch, may_recompute=False) == tuple(
        rung for rung in fallback_sequence(batch) if not rung.grad_checkpoint
    )


def test_what_mlx_and_the_rank_are_told():
    rung = Fallback(2, 10, 20, True)
    assert rung.env == {"MLX_MAX_OPS_PER_BUFFER": "10", "MLX_MAX_MB_PER_BUFFER": "20"}
    assert rung.arguments == ("--micro-batch-size", "2", "--grad-checkpoint")
    assert str(rung) == "micro-batch 2, command buffers of 10 operations, 20 MB, gradient checkpointing"
    assert Fallback(4).env == {} and Fallback(4).arguments == ("--micro-batch-size", "4")


def test_the_lowest_rung_of_the_same_shape_counts(tmp_path):
    folder = tmp_path / "deep" / "state"
    assert remembered_fallback(folder, SHAPE) == (0, "")
    record_incident(folder, SHAPE, 2, run="first", kind="gpu timeout", text="\ud800 ߊ")
    record_incident(folder, SHAPE, 1, run="second")
    assert remembered_fallback(folder, SHAPE) == (2, "first")
    for other in ({"chips": ("M4",)}, {"model": "d"}, {"batch_size": 2}, {"num_layers": 9}, {"max_seq_length": 8}):
        assert remembered_fallback(folder, WorkloadShape(**{**SHAPE.__dict__, **other})) == (0, "")
    assert json.loads((folder / INCIDENT_FILE).read_text().splitlines()[0])["kind"] == "gpu timeout"


DAMAGE = [
    b"\xff\xfe\n", b"{\n", b"[]\n", b"3\n", b"null\n", b"{}\n", b"[" * 100_000 + b"\n", b"\0\0\0\n", b"\n\n",
    *(
        b'{"shape_sha256": "%s", "run": 3, "next_rung": %s}\n' % (digest.sha256_json(SHAPE.__dict__).encode(), bad)
        for bad in (b'"x"', b"null", b"1e999", b"NaN", b"-4", b"[]")
    ),
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_line_that_is_damaged_hides_no_other(tmp_path, damage):
    record_incident(tmp_path, SHAPE, 1, run="one")
    with (tmp_path / INCIDENT_FILE).open("ab") as stream:
        stream.write(damage)
    record_incident(tmp_path, SHAPE, 3, run="three")
    assert remembered_fallback(tmp_path, SHAPE) == (3, "three")


def test_a_line_that_was_cut_off_does_not_take_the_next_with_it(tmp_path):
    record_incident(tmp_path, SHAPE, 1, run="one")
    text = (tmp_path / INCIDENT_FILE).read_bytes()
    (tmp_path / INCIDENT_FILE).write_bytes(text + text[:20])
    record_incident(tmp_path, SHAPE, 2, run="two")
    assert remembered_fallback(tmp_path, SHAPE) == (2, "two")


def test_chips_in_any_order_and_number():
    assert distinct_chips(["M5", "M4", "M5"]) == distinct_chips(["M4", "M5"]) == ("M4", "M5")


def test_incidents_tell_what_went_through_the_model_when_it_was_killed(tmp_path):
    assert oom_fallbacks.chip_incidents(tmp_path, "M4", "abc") == []
    record_incident(tmp_path, SHAPE, 1, run="first")
    record_incident(tmp_path, SHAPE, 3, run="second")
    with (tmp_path / INCIDENT_FILE).open("a") as stream:
        stream.write('{"shape_sha256": "x", "run": "torn", "next_rung": 1}\n{"next_rung": 1}\n')
    record_incident(tmp_path, WorkloadShape(("M4",), "other", 1, 1, 8, False), 1, run="third")
    found = oom_fallbacks.chip_incidents(tmp_path, "M4", "abc")
    assert [(run, shape.batch_size, shape.num_layers) for run, shape in found] == [("first", 4, 8), ("second", 1, 8)]
    assert oom_fallbacks.chip_incidents(tmp_path, "M1", "abc") == []
