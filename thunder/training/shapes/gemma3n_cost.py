"""The cost that gemma3n's several streams of hidden states (AltUp) and Laurel add to a step."""

from __future__ import annotations

from collections.abc import Iterator

from thunder.training.shapes.command_buffers import FLOAT32, CommandBuilder, GpuCommand

KEPT = 4  # copies of all streams that are stored for a layer's backward pass, some in float32


class AltUpCommandBuilder(CommandBuilder):
    """Builds the commands of a block that only a model with several streams has; for other models none."""

    def entering(self, number: int) -> int:
        """Positions at which a layer predicts its streams: all where it makes keys and values of one."""
        return self.all if number <= self.size.cut else self.few

    def spread(self) -> Iterator[GpuCommand]:
        """After the embedding: projections to the other streams."""
        yield from self._between_streams("streams", self.all)

    def gathered(self) -> Iterator[GpuCommand]:
        """Before the last norm: the mean of all streams."""
        yield from self._between_streams("streams behind the last layer", self.few)

    def gathered_backward(self) -> Iterator[GpuCommand]:
        """See `gathered`."""
        for stream in range(1, self.size.streams):
            yield self.through(f"stream {stream}, backward", self.few, self.size.hidden, self.size.hidden)

    def _between_streams(self, part: str, at: int) -> Iterator[GpuCommand]:
        size = self.size
        for stream in range(1, size.streams):
            yield self.matrix(f"{part}: {stream}", at, size.hidden, size.hidden)
        if size.streams > 1:
            yield self.between(part, at, size.streams * size.hidden, 4)

    def predicted(self, number: int, trained: bool) -> Iterator[GpuCommand]:
        """AltUp's prediction: each stream as a mixture of all, with coefficients from the router."""
        size, at, streams = self.size, self.entering(number), self.size.streams
        if streams == 1:
            return
        yield from self.linear(f"router of layer {number}", at, size.hidden, streams, trained)
        yield self.matrix(f"prediction of layer {number}", at, streams, streams**2)
        yield self._mixture(f"streams of layer {number}", at, KEPT if trained else 0)

    def corrected(self, number: int, trained: bool) -> Iterator[GpuCommand]:
        """AltUp's correction: each stream plus its share of the active stream's change."""
        size, at, streams = self.size, self.positions(number), self.size.streams
        if streams == 1:
            return
        yield from self.linear(f"router behind layer {number}", at, size.hidden, streams, trained)
        yield self.matrix(f"correction of layer {number}", at, streams, streams)
        yield self.between(f"correction of layer {number}", at, streams * size.hidden, 3)

    def laurel(self, number: int, trained: bool) -> Iterator[GpuCommand]:
        """Laurel: the low-rank path around the attention."""
        size, at = self.size, self.positions(number)
        for part, wide_in, wide_out in size.laurel_matrices:
            yield from self.linear(f"{part} of layer {number}", at, wide_in, wide_out, trained)

    def corrected_backward(self, number: int) -> Iterator[GpuCommand]:
        """See `corrected`."""
        size, at, streams = self.size, self.positions(number), self.size.streams
        if streams == 1:
            return
        yield self.between(f"correction of layer {number}, backward", at, streams * size.hidden, 4)
        yield self.through(f"correction of layer {number}, backward", at, streams, streams)
        yield from self._router_backward(number, at, lower=True)

    def laurel_backward(self, number: int) -> Iterator[GpuCommand]:
        """See `laurel`."""
        size, at = self.size, self.positions(number)
        for part, wide_in, wide_out in reversed(size.laurel_matrices):
            yield self.lora_gradient(f"{part} of layer {number}", at, wide_in, wide_out, through=True)
            yield self.through(f"{part} of layer {number}, backward", at, wide_in, wide_out)

    def predicted_backward(self, number: int, lower: bool) -> Iterator[GpuCommand]:
        """See `predicted`; lower: whether layers below are trained too."""
        at, streams = self.entering(number), self.size.streams
        if streams == 1:
            return
        yield self._mixture(f"mixture of layer {number}, backward", at)
        yield self.through(f"prediction of layer {number}, backward", at, streams, streams**2)
        yield from self._router_backward(number, at, lower)
        if lower:
            yield self._mixture(f"streams of layer {number}, backward", at)

    def _router_backward(self, number: int, at: int, lower: bool) -> Iterator[GpuCommand]:
        size = self.size
        yield self.lora_gradient(f"router of layer {number}", at, size.hidden, size.streams, through=lower)
        if lower:
            yield self.through(f"router of layer {number}, backward", at, size.hidden, size.streams)

    def _mixture(self, part: str, at: int, kept: int = 0) -> GpuCommand:
        """At every position [streams, streams] x [streams, D], in float32."""
        streams, width = self.size.streams, self.size.hidden
        moved = at * streams * width
        waits = kept * moved * self.size.activation
        return GpuCommand(part, "attention", float(moved) * streams, 3 * FLOAT32 * moved, dispatches=6, kept=waits)
