"""The training loop's task for LoRA on a language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from thunder.lora import adapter_files, adapters, tokenized_rows
from thunder.lora.engine.engine_choice import make_engine
from thunder.lora.lora_settings import LoraSettings
from thunder.lora.prompts.prompt_format import PromptFormat
from thunder.parallel import row_order
from thunder.training.task import Batch


class LoraTask:
    """A frozen base with LoRA layers, and chat rows as token ids."""

    output = "adapters"
    compiled = True

    def __init__(
        self,
        model: nn.Module,
        settings: LoraSettings,
        train: Sequence[tokenized_rows.Example],
        valid: Sequence[tokenized_rows.Example] = (),
        metadata: dict[str, Any] | None = None,
        prompts: PromptFormat | None = None,
    ) -> None:
        """metadata: origin of the adapter, for its config. prompts: how the examples were made, for its folder."""
        self.settings = settings
        self.layers = adapters.add_lora(model, settings)
        if settings.resume_adapter_file:
            adapters.load_adapter_weights(model, settings, adapter_files.find_adapter(settings.resume_adapter_file))
        if settings.grad_checkpoint:
            from mlx_lm.tuner.trainer import grad_checkpoint

            grad_checkpoint(model.layers[0])
        self.engine = make_engine(model, self.layers, [*train, *valid], recompute=settings.grad_checkpoint)
        self.model = self.engine.model
        self.model.train()
        self.train_examples, self.valid_examples = train, valid
        self.rows = len(train)
        self.lengths: Sequence[int] | None = [self.engine.row_length(example) for example in train]
        self._metadata = (metadata or {}) | ({"prompt": prompts.describe()} if prompts else {})
        self._chat_template = prompts.chat_template if prompts else None

    def batch(self, rows: Sequence[int], epoch: int) -> Batch:
        """See Task; the rows are the same in every epoch."""
        return self.engine.batch([self.train_examples[row] for row in rows])

    def loss(self, model: nn.Module, *arrays: mx.array) -> mx.array:
        """See Task."""
        return self.engine.loss(model, *arrays)

    @property
    def groups(self) -> tuple[str, ...]:
        """One group, where there are validation rows."""
        return ("valid",) if self.valid_examples else ()

    def validation(self, rank: int, size: int) -> Iterator[tuple[str, Batch]]:
        """See Task; rows of similar length go together."""
        mine = self.valid_examples_of(rank, size)
        for start in range(0, len(mine), self.settings.batch_size):
            yield "valid", self.engine.batch(mine[start : start + self.settings.batch_size])

    def validation_batches(self, rank: int, size: int) -> int:
        """See CountsBatches."""
        parts = (self.valid_examples_of(rank, size), self.probe_examples_of(rank, size))
        return sum(-(-len(part) // self.settings.batch_size) for part in parts)

    def valid_examples_of(self, rank: int, size: int) -> Sequence[tokenized_rows.Example]:
        """This rank's share of the validation rows, sorted by length."""
        return sorted(self.valid_examples, key=self.engine.row_length)[rank::size]

    def probe(self, rank: int, size: int) -> Iterator[Batch]:
        """This rank's share of some training rows, the same at every validation; see `validation.validate`."""
        mine = self.probe_examples_of(rank, size)
        for start in range(0, len(mine), self.settings.batch_size):
            yield self.engine.batch(mine[start : start + self.settings.batch_size])

    def probe_examples_of(self, rank: int, size: int) -> Sequence[tokenized_rows.Example]:
        """This rank's share of the training rows that validations score too, sorted by length."""
        chosen = row_order.evenly_spaced(self.train_examples, self.settings.probe_rows)
        return sorted(chosen, key=self.engine.row_length)[rank::size]

    def validation_metrics(self, sums: dict[str, tuple[float, float]]) -> dict[str, float]:
        """Mean loss per supervised token, in nats."""
        loss, tokens = sums["valid"]
        return {"valid_loss": loss / tokens}

    def save(self, folder: Path) -> None:
        """Write the adapter as mlx_lm reads it."""
        adapters.save_adapter(folder, self.model, self.settings, self.layers, self._metadata, self._chat_template)
