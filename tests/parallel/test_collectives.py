"""Sums over real ranks: right, exact, and never silently wrong."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ring_scripts import PREAMBLE, outputs

from thunder.parallel import collectives, row_order
from thunder.parallel.world import World

pytestmark = pytest.mark.expensive


@pytest.mark.parametrize("ranks", [2, 3])
def test_gradients_tokens_and_stop_are_summed(run_ranks, ranks):
    script = (
        PREAMBLE
        + """
tree = {"a": {"w": mx.full((3, 2), ring.rank + 1.0)}, "b": mx.array([0.5], mx.bfloat16)}
rank = ring.rank
out = collectives.sum_gradients(ring, tree, step=7, loss_sum=mx.array(1.5), tokens=5000 + rank, stop=rank == 1)
print(json.dumps([out.tree["a"]["w"].tolist(), out.tree["b"].tolist(), out.loss_sum, out.tokens, out.finite, out.stop]))
"""
    )
    answers = outputs(run_ranks(ranks, script))
    total = float(sum(range(1, ranks + 1)))
    tokens = 5000 * ranks + sum(range(ranks))
    assert answers == [[[[total] * 2] * 3, [0.5 * ranks], 1.5 * ranks, tokens, True, True]] * ranks


# Each makes rank 1's call differ while both ranks still send buffers of one length: only the header tells them apart.
STRAYED = {
    "step": "options['step'] += ring.rank",
    "payload length": """
if ring.rank == 1:
    options["gradients"] = {"w": mx.zeros(9)}
    whole = collectives.sum_array
    collectives.sum_array = lambda world, buffer: whole(world, buffer[:-1])
""",
    "job": "object.__setattr__(ring, 'job', ring.job + ring.rank)",
}


@pytest.mark.parametrize("named", STRAYED)
def test_ranks_out_of_step_are_an_error_on_every_rank(run_ranks, named):
    script = f"""{PREAMBLE}
options = dict(gradients={{"w": mx.zeros(8)}}, step=3, loss_sum=mx.array(1.0), tokens=4)
{STRAYED[named]}
try:
    collectives.sum_gradients(ring, **options)
    print(json.dumps("no error"))
except ThunderError as error:
    print(json.dumps(error.message))
"""
    answers = outputs(run_ranks(2, script))
    assert len(answers) == 2
    assert all("out of step" in answer and f"{named} is" in answer for answer in answers), answers


def test_a_nan_on_one_rank_is_known_to_all(run_ranks):
    script = (
        PREAMBLE
        + """
value = float("nan") if ring.rank == 1 else 1.0
out = collectives.sum_gradients(ring, {"w": mx.array([value])}, step=1, loss_sum=mx.array(1.0), tokens=4)
print(json.dumps(out.finite))
"""
    )
    assert outputs(run_ranks(2, script)) == [False, False]


def test_values_of_unequal_length_are_gathered_in_order(run_ranks):
    script = (
        PREAMBLE
        + """
texts = ["ߒߞߏ" * 1000, "", {"deep": [1, 2.5, None]}]
gathered = collectives.gather_json(ring, texts[ring.rank])
print(json.dumps([gathered, collectives.sum_numbers(ring, [1e9 + ring.rank, 0.1])]))
"""
    )
    answers = outputs(run_ranks(3, script))
    assert answers[0][0] == ["ߒߞߏ" * 1000, "", {"deep": [1, 2.5, None]}]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][1][0] == 3e9 + 3
    np.testing.assert_allclose(answers[0][1][1], 0.3, rtol=1e-12)


def test_a_rank_without_its_variables_does_not_train_alone(run_ranks):
    script = 'import os; os.environ.pop("MLX_HOSTFILE", None); os.environ.pop("MLX_RANK", None)' + PREAMBLE
    results = run_ranks(2, script)
    assert all(
        code != 0 and "ClusterError" in text and "could not join the ring of 2" in text for code, text in results
    )


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_broadcast_keeps_every_bit(run_ranks, ranks):
    """NaNs with payloads, signalling ones too, -0.0, denormals: float sums would change them."""
    words = [0x7FC01234, 0x7F800001, 0xFFFFFFFF, 0x80000000, 0x00000001, 0xFF800000, 0x7F7FFFFF]
    script = (
        PREAMBLE
        + f"""
import hashlib
collectives.BROADCAST_CHUNK = 64
words = b"".join(word.to_bytes(4, "little") for word in {words})
sent = [b"", b"x", words, bytes(range(256)) * 3 + b"tail"]
digests = []
for source in range(ring.size):
    for data in sent:
        got = collectives.broadcast_bytes(ring, source, data if ring.rank == source else None)
        digests.append(hashlib.sha256(got).hexdigest() == hashlib.sha256(data).hexdigest())
collectives.BROADCAST_CHUNK = 16 * 2**20
large = os.urandom(33 * 2**20 + 3) if ring.rank == ring.size - 1 else None
got = collectives.broadcast_bytes(ring, ring.size - 1, large)
print(json.dumps([digests, len(got), hashlib.sha256(got).hexdigest()]))
"""
    )
    answers = outputs(run_ranks(ranks, script))
    assert len(answers) == ranks and all(answer == answers[0] for answer in answers)
    assert answers[0][:2] == [[True] * (4 * ranks), 33 * 2**20 + 3]


@pytest.mark.parametrize("strayed", ["source", "content"])
def test_a_broadcast_that_arrives_otherwise_is_an_error(run_ranks, strayed):
    script = (
        PREAMBLE
        + f"""
if {strayed == "content"} and ring.rank == 1:
    whole = collectives.sum_array
    collectives.sum_array = lambda world, words: whole(world, words) ^ mx.array(int(words.size != 12), mx.uint32)
source = ring.rank if {strayed == "source"} else 0
try:
    collectives.broadcast_bytes(ring, source, b"abc" if ring.rank == source else None)
    print(json.dumps(""))
except ThunderError as error:
    print(json.dumps(error.message))
"""
    )
    answers = outputs(run_ranks(2, script))
    if strayed == "source":
        assert len(answers) == 2 and all("out of step" in answer for answer in answers)
    else:
        assert "did not arrive at rank 1 as they were sent" in answers[1] and not answers[0]


@pytest.mark.parametrize("length", [2**31 - 1, -5])
def test_a_garbage_length_allocates_nothing_and_is_an_error(run_ranks, length):
    script = (
        PREAMBLE
        + f"""
import resource
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    if ring.rank == 0:
        collectives.gather_json(ring, "value")
    else:
        collectives.gather_array(ring, mx.array([{length}], mx.int32))
    print(json.dumps("no error"))
except ThunderError as error:
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps(error.message if grown < 60_000 else f"{{grown}} kB"))
"""
    )
    answers = outputs(run_ranks(2, script))
    assert "at most 67108864" in answers[0] and "out of step" in answers[0]


def test_gathered_garbage_is_an_error(run_ranks):
    script = (
        PREAMBLE
        + """
try:
    if ring.rank == 0:
        collectives.gather_json(ring, "value")
    else:
        collectives.gather_array(ring, mx.array([7], mx.int32))
        collectives.gather_array(ring, mx.array([-1, -1], mx.int32))
    print(json.dumps("no error"))
except ThunderError as error:
    print(json.dumps(error.message))
"""
    )
    assert "no JSON: ranks are out of step" in outputs(run_ranks(2, script))[0]


def test_a_world_of_one_needs_no_ring():
    out = collectives.sum_gradients(
        World(), {"w": mx.array([2.0])}, step=1, loss_sum=mx.array(3.0), tokens=10_000_000, stop=False
    )
    assert (out.tree["w"].item(), out.loss_sum, out.tokens, out.stop) == (2.0, 3.0, 10_000_000, False)
    assert collectives.gather_json(World(), {"a": 1}) == [{"a": 1}]


@given(
    ranks=st.integers(1, collectives.MOST_RANKS),
    job=st.integers(0, 2**24 - 1),
    step=st.integers(0, 10**7),
    length=st.integers(0, 10**9),
    tokens=st.integers(0, 10**9),
)
def test_headers_add_up_exactly_in_float32(ranks, job, step, length, tokens):
    """Three ranks of a large job number once added up to a number that float32 does not have."""
    one = collectives.gradient_header(job, step, length, tokens, False, True)
    total = np.zeros(len(one), np.float32)
    for _ in range(ranks):
        total += np.array(one, np.float32)
    assert total.tolist() == [value * ranks for value in one]
    assert len(one) == collectives.HEADER


@given(rows=st.integers(1, 60), batch=st.integers(1, 9), ranks=st.integers(1, 5), seed=st.integers(0, 99))
def test_every_row_comes_once_an_epoch_and_on_one_rank(rows, batch, ranks, seed):
    per_epoch = -(-rows // (batch * ranks))
    plans = list(row_order.plan_steps(rows, batch * ranks, seed, until=2 * per_epoch))
    for epoch in (0, 1):
        mine = [
            row
            for plan in plans
            if plan.epoch == epoch
            for rank in range(ranks)
            for micro in row_order.micro_batches(row_order.rank_share(plan.rows, rank, ranks), batch)
            for row in micro
        ]
        assert sorted(mine) == list(range(rows))
    assert [plan.number for plan in plans] == list(range(1, 2 * per_epoch + 1))
    sizes = {len(row_order.rank_share(plan.rows, rank, ranks)) for plan in plans[:1] for rank in range(ranks)}
    assert max(sizes) - min(sizes) <= 1 and max(sizes) <= batch


@given(rows=st.integers(1, 40), batch=st.integers(1, 9), after=st.integers(0, 30))
def test_steps_continue_where_they_were_left(rows, batch, after):
    whole = list(row_order.plan_steps(rows, batch, 3, until=40))
    assert list(row_order.plan_steps(rows, batch, 3, after=after, until=40)) == whole[after:]


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=90), batch=st.integers(1, 9), seed=st.integers(0, 99))
def test_rows_of_like_length_come_together_each_in_its_place(lengths, batch, seed):
    per_epoch = -(-len(lengths) // batch)
    plans = list(row_order.plan_steps(len(lengths), batch, seed, until=3 * per_epoch, lengths=lengths))
    places = {}
    for epoch in range(3):
        mine = [plan for plan in plans if plan.epoch == epoch]
        assert sorted(row for plan in mine for row in plan.rows) == list(range(len(lengths)))
        for plan in mine:
            for place, row in enumerate(plan.rows):
                assert places.setdefault(row, place) == place, "a rank meets the same rows in every epoch"
    order = sorted(lengths)
    near = row_order.MIN_GROUP * batch  # with at most 90 rows
    for plan in plans:
        inside = sorted(lengths[row] for row in plan.rows)
        assert inside[-1] <= max(order[order.index(inside[0]) :][: 2 * near])
    assert (
        list(row_order.plan_steps(len(lengths), batch, seed, after=4, until=9, lengths=lengths)) == plans[4:9]
        or per_epoch < 3
    )


def test_epochs_and_seeds_have_other_orders():
    lengths = [length % 7 for length in range(200)]
    plans = list(row_order.plan_steps(200, 4, 0, until=100, lengths=lengths))
    first, second = ([plan.rows for plan in plans if plan.epoch == epoch] for epoch in (0, 1))
    assert first != second and len(set(first) & set(second)) < 10
    assert [plan.rows for plan in row_order.plan_steps(200, 4, 1, until=50, lengths=lengths)] != first
