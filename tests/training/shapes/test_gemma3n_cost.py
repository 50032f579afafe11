"""AltUp and Laurel of gemma3n: their products are those of mlx_lm's modules; a model without streams has none."""

from __future__ import annotations

import mlx.core as mx
import pytest
from conftest import TINY_GEMMA3N, random_gemma3n
from costed_models import GEMMA3N, GEMMA4, multiply_adds_of

from thunder.training.shapes.command_buffers import TrainingShape
from thunder.training.shapes.gemma3n_cost import AltUpCommandBuilder
from thunder.training.shapes.model_size import model_size_from_config

BATCH, LENGTH = 2, 5
HIDDEN, STREAMS = TINY_GEMMA3N["hidden_size"], TINY_GEMMA3N["altup_num_inputs"]


def builder_of(config, **changes):
    return AltUpCommandBuilder(model_size_from_config(config), TrainingShape(BATCH, 1, LENGTH, **changes))


def work(commands):
    return sum(command.multiply_adds for command in commands)


def test_products_are_those_of_mlx_lms_modules():
    builder, layer = builder_of(GEMMA3N), random_gemma3n().layers[0]
    streams, one = mx.zeros((STREAMS, BATCH, LENGTH, HIDDEN)), mx.zeros((BATCH, LENGTH, HIDDEN))
    assert work(builder.predicted(0, trained=False)) == multiply_adds_of(layer.altup.predict, streams)
    assert work(builder.corrected(0, trained=False)) == multiply_adds_of(layer.altup.correct, streams, one)
    assert work(builder.laurel(0, trained=False)) == multiply_adds_of(layer.laurel, one)


def test_each_further_stream_has_a_projection_at_both_ends():
    builder, every = builder_of(GEMMA3N), BATCH * LENGTH
    for commands in (builder.spread(), builder.gathered(), builder.gathered_backward()):
        assert work(commands) == (STREAMS - 1) * every * HIDDEN**2


@pytest.mark.parametrize("number", [0, 5])
def test_the_backward_pass_stops_at_the_lowest_trained_layer(number):
    """With layers below: the input's gradient goes through the prediction, its mixture and the router too."""
    builder, every = builder_of(GEMMA3N), BATCH * LENGTH
    more = work(builder.predicted_backward(number, lower=True)) - work(builder.predicted_backward(number, lower=False))
    rank = 8
    assert more == every * (HIDDEN * STREAMS + HIDDEN * STREAMS**2 + rank * HIDDEN)


def test_a_layer_above_the_last_keys_predicts_at_supervised_positions():
    builder = builder_of(GEMMA3N, path="supervised", supervised_share=0.4)
    cut = builder.size.cut
    assert [builder.entering(number) for number in (0, cut, cut + 1)] == [10, 10, 4]


def test_a_model_without_streams_has_none_of_it():
    builder = builder_of(GEMMA4)
    assert not [
        *builder.spread(), *builder.gathered(), *builder.gathered_backward(), *builder.predicted(0, True),
        *builder.corrected(0, True), *builder.laurel(0, True), *builder.corrected_backward(0),
        *builder.laurel_backward(0), *builder.predicted_backward(0, True),
    ]  # fmt: skip
