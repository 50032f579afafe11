"""Calculate the cost of one LoRA training step: operations, bytes, command buffers, memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from thunder.training.shapes.command_buffers import FLOAT32, GpuCommand, TrainingShape
from thunder.training.shapes.gemma3n_cost import AltUpCommandBuilder
from thunder.training.shapes.model_size import ModelSize

LOGITS_AT_ONCE = 64 * 2**20  # bytes of float32 logits in one piece of the head that works at supervised positions only
# Logits as they are, soft-capped, in float32, and their gradients: five times float32, whatever the model's own type;
# measured on the CPU, as is what recomputing one layer's activations takes beside its gradients
# (docs/explanation/shapes.md).
LOGIT_BYTES = 5 * FLOAT32
RECOMPUTED = 2
STATE_COPIES = 6  # of each LoRA number in float32: itself, gradient, two moments, the flat buffer sent and received


@dataclass(frozen=True)
class StepCost:
    """A step's commands in three stretches, each in its order, and the memory at its peak in bytes.

    below: the frozen part of the forward pass. forward: the trained layers and the head. backward: from the head down.
    """

    below: tuple[GpuCommand, ...]
    forward: tuple[GpuCommand, ...]
    backward: tuple[GpuCommand, ...]
    frozen: tuple[GpuCommand, ...]
    peak_bytes: float

    @property
    def commands(self) -> tuple[GpuCommand, ...]:
        """All commands of a step."""
        return self.below + self.forward + self.backward

    @property
    def multiply_adds(self) -> float:
        """Of the whole step."""
        return sum(command.multiply_adds for command in self.commands)

    @property
    def stretches(self) -> tuple[tuple[GpuCommand, ...], ...]:
        """The command sequences that are cut into buffers; with more trained layers each grows at one end only.

        `frozen` is the whole forward pass without LoRA, which contains `below` of any number of layers.
        """
        return self.frozen, self.forward, self.backward


def step_cost(size: ModelSize, shape: TrainingShape) -> StepCost:
    """The cost of one pass forward and backward over a micro-batch; LoRA is on all matrices of the last layers."""
    step = _Step(size, shape)
    first = len(size.layers) - min(shape.num_layers, len(size.layers))
    entry, head, head_backward = list(step.entry()), list(step.head()), list(step.head_backward())
    layers = range(len(size.layers))
    untrained = {number: list(step.layer(number, trained=False)) for number in layers}
    trained = {number: list(step.layer(number, trained=True)) for number in layers[first:]}
    backward = list(head_backward)
    for number in reversed(layers[first:]):
        again = trained[number] if shape.grad_checkpoint else []
        backward += [*again, *step.layer_backward(number, first)]
    return StepCost(
        below=tuple([*entry, *(command for number in layers[:first] for command in untrained[number])]),
        forward=tuple([*(command for number in layers[first:] for command in trained[number]), *head]),
        backward=tuple(backward),
        frozen=tuple([*entry, *(command for number in layers for command in untrained[number]), *head]),
        peak_bytes=step.peak_bytes(first, trained),
    )


class _Step(AltUpCommandBuilder):
    """Builds the commands of a step."""

    def __init__(self, size: ModelSize, shape: TrainingShape) -> None:
        super().__init__(size, shape)
        self.at_once = max(1, LOGITS_AT_ONCE // (FLOAT32 * size.vocabulary))

    def entry(self) -> Iterator[GpuCommand]:
        """Embeddings and per-layer inputs."""
        size, wide = self.size, self.size.own * len(self.size.layers)
        yield self.between("embeddings", self.all, size.hidden, 2)
        if wide:
            yield self.between("per-layer embeddings", self.all, wide, 3)
            yield from self.linear("per-layer projection", self.all, size.hidden, wide, trained=False)
        yield from self.spread()

    def layer(self, number: int, trained: bool) -> Iterator[GpuCommand]:
        """A block, forward."""
        size, layer, at = self.size, self.size.layers[number], self.positions(number)
        matrices = {
            name: list(
                self.linear(f"{name} of layer {number}", self.all if name in "kv" else at, wide_in, wide_out, trained)
            )
            for name, wide_in, wide_out in size.linears(number)
        }

        yield from self.predicted(number, trained)
        yield self.between(f"norm of layer {number}", at, size.hidden, 1)
        yield from self.laurel(number, trained)
        for name in ("q", "k", "v"):
            yield from matrices.get(name, ())
        yield self.between(f"positions of layer {number}", at, size.heads * layer.head_dim, 4, kept=2)
        yield self._attention(number, products=2)
        yield from matrices["o"]
        yield self.between(f"norms of layer {number}", at, size.hidden, 3, kept=3)
        yield from (*matrices["gate"], *matrices["up"])
        yield self.between(f"activation of layer {number}", at, layer.mlp, 1, kept=3)
        yield from matrices["down"]
        yield self.between(f"end of layer {number}", at, size.hidden, 2, kept=2)
        yield from self.corrected(number, trained)
        if size.own:
            yield from matrices["own gate"]
            yield self.between(f"own input of layer {number}", at, size.own, 1, kept=3)
            yield from matrices["own projection"]
            yield self.between(f"scale of layer {number}", at, size.hidden, 3, kept=2)

    def layer_backward(self, number: int, first: int) -> Iterator[GpuCommand]:
        """A trained block, backward. Gradients for lower layers come last, and not in the lowest trained layer."""
        size, layer, at = self.size, self.size.layers[number], self.positions(number)
        widths = {name: (wide_in, wide_out) for name, wide_in, wide_out in size.linears(number)}
        yield from self.corrected_backward(number)
        for name in ("own projection", "own gate", "down", "up", "gate", "o"):
            if name in widths:
                yield self.lora_gradient(f"{name} of layer {number}", at, *widths[name], through=True)
                yield self.through(f"{name} of layer {number}, backward", at, *widths[name])
        yield self.between(f"norms of layer {number}, backward", at, 4 * size.hidden + 4 * layer.mlp, 12)
        # keys and values are differentiated where LoRA had a part in making them
        yield self._attention(number, products=4 if layer.source >= first else 2)
        entering = [name for name in ("q", "k", "v") if name in widths]
        # what enters has a trained part below, or the router's LoRA before it
        lower = number > first or size.streams > 1
        yield from self.laurel_backward(number)
        for name in entering:
            where = self.all if name in "kv" else at
            yield self.lora_gradient(f"{name} of layer {number}", where, *widths[name], through=lower)
        for name in entering if lower else []:
            where = self.all if name in "kv" else at
            yield self.through(f"{name} of layer {number}, backward", where, *widths[name])
        yield from self.predicted_backward(number, number > first)

    def head(self) -> Iterator[GpuCommand]:
        """The output layer and the cross entropy; with its gradient, where it runs at supervised positions only."""
        size, shape = self.size, self.shape
        yield from self.gathered()
        if shape.path == "plain":
            yield self.matrix("head", self.all, size.hidden, size.vocabulary)
            yield self.between("cross entropy", self.all, size.vocabulary, 5)
            return
        for start in range(0, self.few, self.at_once):
            at = min(self.at_once, self.few - start)
            yield self.matrix("head", at, size.hidden, size.vocabulary)
            yield self.between("cross entropy", at, size.vocabulary, 5)
            yield self.matrix("head, backward", at, size.vocabulary, size.hidden)

    def head_backward(self) -> Iterator[GpuCommand]:
        """The part of the head that runs in the backward pass."""
        if self.shape.path == "plain":
            yield self.between("cross entropy, backward", self.all, self.size.vocabulary, 5)
            yield self.matrix("head, backward", self.all, self.size.vocabulary, self.size.hidden)
        yield from self.gathered_backward()

    def peak_bytes(self, first: int, trained: dict[int, list[GpuCommand]]) -> float:
        """Weights, LoRA's states, activations stored for the backward pass, and the head's logits."""
        size, shape, a = self.size, self.shape, self.size.activation
        lora = shape.lora_rank * sum(wide_in + wide_out for n in trained for _, wide_in, wide_out in size.adapted(n))
        kept = [sum(command.kept for command in commands) for commands in trained.values()]
        entering = self.all * size.hidden * size.streams * a * len(kept)
        waiting = RECOMPUTED * max(kept) + entering if shape.grad_checkpoint else sum(kept)
        shared_keys = sum(2 * self.all * layer.kv_heads * layer.head_dim * a for layer in size.layers[:first])
        rows = self.all if shape.path == "plain" else min(self.few, self.at_once)
        logits = rows * size.vocabulary * LOGIT_BYTES
        inputs = self.all * size.own * len(size.layers) * a * 2
        return size.weights * size.weight + lora * FLOAT32 * STATE_COPIES + waiting + shared_keys + logits + inputs

    def _attention(self, number: int, products: int) -> GpuCommand:
        """Attention of a layer: every query with every key, sliding windows included in full."""
        size, layer = self.size, self.size.layers[number]
        pairs = float(self.positions(number)) * self.shape.max_seq_length * size.heads
        moved = pairs * size.activation
        return GpuCommand(
            f"attention of layer {number}", "attention", products * pairs * layer.head_dim, 3 * products * moved,
            dispatches=4, kept=moved + self.positions(number) * size.heads * layer.head_dim * size.activation,
        )  # fmt: skip


def command_buffers(stretch: Sequence[GpuCommand], operations: int, megabytes: int) -> Iterator[tuple[GpuCommand, ...]]:
    """Every sequence of commands that MLX may put into one command buffer, wherever the previous one ended.

    MLX ends a buffer after the command with which it holds more than `operations` kernels, or more than `megabytes` x
    2^20 numbers (not bytes) in the arrays it touches (`needs_commit` in its backend/metal/device.cpp). Only weights are
    counted here, so a sequence is never shorter than MLX's.
    """
    limit = (megabytes + 1) * 2**20
    end, dispatched, numbers = 0, 0, 0
    for start in range(len(stretch)):
        end = max(end, start)
        while end < len(stretch) and dispatched <= operations and numbers < limit:
            dispatched, numbers, end = dispatched + stretch[end].dispatches, numbers + stretch[end].weights, end + 1
        yield tuple(stretch[start:end])
        if end > start:
            dispatched, numbers = dispatched - stretch[start].dispatches, numbers - stretch[start].weights
