"""Pretrain the tiny base model on open text: plain text, and copying and repairing text in the chat format."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import sentencepiece
from mlx.utils import tree_flatten
from mlx_lm.models import gemma4_text
from mlx_lm.tuner.trainer import grad_checkpoint

from thunder import digest
from thunder.errors import ModelError
from thunder.lora import tokenizer
from thunder.lora.lora_settings import PretrainSettings
from thunder.lora.open_text import OpenText
from thunder.parallel import row_order
from thunder.text.chat import CORRECTION_INSTRUCTION, correction_prompt
from thunder.training.loop_settings import check_max_epochs, planned_epochs
from thunder.training.task import Batch

_INSTRUCTION_WEIGHT = 3000  # copies of the instruction, so that its words become pieces, not bytes


def model_config(settings: PretrainSettings, vocab_size: int, end_of_turn: int) -> dict[str, Any]:
    """config.json of the tiny model: a small gemma4_text with all of its features."""
    return {
        "model_type": "gemma4_text",
        "architectures": ["Gemma4ForCausalLM"],
        "hidden_size": settings.hidden_size,
        "num_hidden_layers": settings.num_hidden_layers,
        "intermediate_size": settings.intermediate_size,
        "num_attention_heads": settings.num_attention_heads,
        "num_key_value_heads": 1,
        "head_dim": settings.head_dim,
        "global_head_dim": settings.global_head_dim,
        "num_kv_shared_layers": settings.num_kv_shared_layers,
        "hidden_size_per_layer_input": settings.hidden_size_per_layer_input,
        "vocab_size": vocab_size,
        "vocab_size_per_layer_input": vocab_size,
        "sliding_window": settings.sliding_window,
        "sliding_window_pattern": settings.sliding_window_pattern,
        "layer_types": [
            "sliding_attention" if (layer + 1) % settings.sliding_window_pattern else "full_attention"
            for layer in range(settings.num_hidden_layers)
        ],
        "final_logit_softcapping": 30.0,
        "use_double_wide_mlp": True,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 4 * settings.max_seq_length,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": [1, end_of_turn],
        "dtype": "float32",
    }


class PretrainTask:
    """The whole model is trained; a 'row' is a chunk of consecutive lines as long as a sequence."""

    output = "model"
    lengths = None
    compiled = True

    def __init__(self, settings: PretrainSettings, text: OpenText) -> None:
        self.settings, self.text = settings, text
        self.tokenizer_model = self._tokenizer()
        self.pieces = sentencepiece.SentencePieceProcessor(model_proto=self.tokenizer_model)
        self.turn, self.end = (self.pieces.piece_to_id(token) for token in (tokenizer.TURN, tokenizer.END_OF_TURN))
        self.newline = self.pieces.piece_to_id("\n")
        self.config = model_config(settings, self.pieces.vocab_size(), self.end)
        mx.random.seed(settings.seed)
        self.model = gemma4_text.Model(gemma4_text.ModelArgs.from_dict(self.config))
        if settings.start_from:
            self._take_weights(Path(settings.start_from) / "model.safetensors")
        mx.eval(self.model.parameters())
        if settings.grad_checkpoint:
            grad_checkpoint(self.model.layers[0])
        self.model.train()
        self.chunks = self._chunks(text.train)
        self.rows = len(self.chunks)
        self.heldout_bytes = sum(len(line.encode()) for line in text.heldout)
        # Characters that noise inserts: those of the text itself, with their frequencies.
        self.letters = "".join(random.Random(settings.seed).choices("".join(text.train[:2000]), k=4096))

    def _tokenizer(self) -> bytes:
        """The sentencepiece model: that of `start_from`, or one trained on the text.

        Raises ModelError where `start_from` has none.
        """
        if self.settings.start_from:
            path = Path(self.settings.start_from) / "tokenizer.model"
            try:
                return path.read_bytes()
            except OSError as error:
                raise ModelError(f"{path}: {error.strerror}", fix="--start-from names a folder with it") from None
        prompts = [f"user model {CORRECTION_INSTRUCTION}"] * _INSTRUCTION_WEIGHT
        return tokenizer.train_tokenizer([*self.text.train, *prompts], self.settings.vocab_size)

    def _take_weights(self, path: Path) -> None:
        """Raises ModelError where the file is not of a model of these sizes."""
        try:
            self.model.load_weights(str(path), strict=True)
        except (ValueError, RuntimeError, OSError) as error:
            raise ModelError(f"{path}: not weights of a model of these sizes: {error}", fix="give its sizes") from None

    def _chunks(self, lines: Sequence[str]) -> list[tuple[int, list[str]]]:
        """(number, lines) of each chunk: lines in a seeded order, as many as fill a sequence."""
        order = np.random.Generator(np.random.PCG64([self.settings.seed, 1])).permutation(len(lines))
        chunks: list[tuple[int, list[str]]] = []
        room, current = 0, []
        lengths = [len(ids) + 2 for ids in self.pieces.encode([lines[i] for i in order])]
        for place, length in zip(order, lengths, strict=True):
            current.append(lines[place])
            room += length
            if room > self.settings.max_seq_length:
                chunks.append((len(chunks), current))
                room, current = 0, []
        return chunks or [(0, current)]

    def batch(self, rows: Sequence[int], epoch: int) -> Batch:
        """See Task; noise and the choice between text and repair are drawn anew in every epoch."""
        return self._batch([self._sequence(f"{self.settings.seed}:{epoch}:{row}", self.chunks[row][1]) for row in rows])

    def _batch(self, sequences: Sequence[tuple[list[int], list[int]]]) -> Batch:
        width = self.settings.max_seq_length + 1
        ids, mask = np.zeros((len(sequences), width), np.int32), np.zeros((len(sequences), width), np.float32)
        for number, (tokens, supervised) in enumerate(sequences):
            ids[number, : len(tokens)], mask[number, : len(tokens)] = tokens, supervised
        mask = mask[:, 1:]
        return Batch((mx.array(ids), mx.array(mask)), int(mask.sum()))

    def _sequence(self, seed: str, lines: Sequence[str]) -> tuple[list[int], list[int]]:
        """Token ids of one sequence, and for each whether it is supervised."""
        draw = random.Random(seed)
        if draw.random() < self.settings.repair_share:
            return self._repair_sequence(draw, lines)
        return self._text_sequence(lines)

    def _text_sequence(self, lines: Sequence[str]) -> tuple[list[int], list[int]]:
        ids = [number for line in lines for number in (2, *self.pieces.encode(line), 1)][
            : self.settings.max_seq_length + 1
        ]
        return ids, [1] * len(ids)

    def _repair_sequence(self, draw: random.Random, lines: Sequence[str]) -> tuple[list[int], list[int]]:
        """Pieces of the lines, with noise or unchanged, as chat turns; only the answers are supervised."""
        ids: list[int] = []
        supervised: list[int] = []
        limit = self.settings.max_seq_length + 1
        while len(ids) < limit:
            words = draw.choice(lines).split()
            count = draw.randint(1, self.settings.max_words)
            start = draw.randrange(max(1, len(words) - count + 1))
            clean = " ".join(words[start : start + count])[: 12 * self.settings.max_words]
            prompt, answer = self._turns(self._noised(draw, clean) if draw.random() < 0.6 else clean, clean)
            if ids and len(ids) + len(prompt) + len(answer) > limit:
                break
            ids += prompt + answer
            supervised += [0] * len(prompt) + [1] * len(answer)
        return ids[:limit], supervised[:limit]

    def _turns(self, asr_text: str, reference: str) -> tuple[list[int], list[int]]:
        """The ids of prompt and answer, as the chat template writes them (tested against it)."""
        newline, encode = [self.newline], self.pieces.encode
        prompt = [2, self.turn, *encode("user"), *newline, *encode(correction_prompt(asr_text)), self.end, *newline]
        prompt += [self.turn, *encode("model"), *newline]
        return prompt, [*encode(reference), self.end, *newline]

    def _noised(self, draw: random.Random, text: str) -> str:
        """Generic noise, not that of a recognizer: code points deleted, replaced, inserted; words joined."""
        out = []
        for letter in text:
            fate = draw.random()
            if fate < 0.03 or (letter == " " and fate < 0.06):
                continue
            out.append(draw.choice(self.letters) if 0.06 < fate < 0.10 else letter)
            if fate > 0.98:
                out.append(draw.choice(self.letters))
        return "".join(out).strip() or text

    def loss(self, model: nn.Module, *arrays: mx.array) -> mx.array:
        """Summed cross entropy of supervised targets; ids [B, T+1], mask [B, T]."""
        ids, mask = arrays
        return (nn.losses.cross_entropy(model(ids[:, :-1]), ids[:, 1:]) * mask).sum()

    @property
    def groups(self) -> tuple[str, ...]:
        """Held-out text, and repairs of it."""
        return ("text", "repair")

    def validation(self, rank: int, size: int) -> Iterator[tuple[str, Batch]]:
        """See Task; each held-out line by itself, so that each of its bytes is counted."""
        chosen = self._chunks(self.text.heldout)
        sequences = {
            "text": self._whole_lines(self.text.heldout),
            "repair": [self._repair_sequence(random.Random(f"valid:{number}"), lines) for number, lines in chosen],
        }
        for group, whole in sequences.items():
            mine = sorted(whole, key=lambda sequence: len(sequence[0]))[rank::size]
            for start in range(0, len(mine), self.settings.batch_size):
                yield group, self._batch(mine[start : start + self.settings.batch_size])

    def probe(self, rank: int, size: int) -> Iterator[Batch]:
        """This rank's share of some training lines, read as held-out ones are; the same at every validation."""
        chosen = row_order.evenly_spaced(self.text.train, self.settings.probe_rows)
        mine = sorted(self._whole_lines(chosen), key=lambda sequence: len(sequence[0]))[rank::size]
        for start in range(0, len(mine), self.settings.batch_size):
            yield self._batch(mine[start : start + self.settings.batch_size])

    def _whole_lines(self, lines: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Each line by itself, in pieces that overlap by a token where it is longer than a sequence."""
        limit = self.settings.max_seq_length
        whole = [[2, *ids, 1] for ids in self.pieces.encode(list(lines))]
        pieces = [ids[start : start + limit] for ids in whole for start in range(0, len(ids) - 1, limit - 1)]
        return [(ids, [0] + [1] * (len(ids) - 1)) for ids in pieces]

    def validation_metrics(self, sums: dict[str, tuple[float, float]]) -> dict[str, float]:
        """Nats per token and bits per byte of held-out text; nats per token of the repairs."""
        (text_loss, text_tokens), (repair_loss, repair_tokens) = sums["text"], sums["repair"]
        return {
            "valid_loss": text_loss / text_tokens,
            "bits_per_byte": text_loss / math.log(2) / self.heldout_bytes,
            "repair_loss": repair_loss / repair_tokens,
        }

    def epochs(self, global_batch: int) -> float:
        """How often the run goes over the text.

        Raises ConfigError where that is more than `max_epochs`.
        """
        found = planned_epochs(self.settings.total_updates, self.rows, global_batch)
        check_max_epochs(found, self.settings.max_epochs, self.settings.iters)
        return found

    def save(self, folder: Path) -> None:
        """Write a model folder that mlx_lm.load reads."""
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{os.getpid()}.tmp.safetensors"
        mx.save_safetensors(str(beside), dict(tree_flatten(self.model.parameters())), {"format": "mlx"})
        os.replace(beside, folder / "model.safetensors")
        digest.write_json(folder / "config.json", self.config)
        tokenizer.save_tokenizer(folder, self.tokenizer_model, self.config["max_position_embeddings"])
