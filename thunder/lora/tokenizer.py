"""Train and write the tiny model's tokenizer: a sentencepiece BPE with byte fallback, in the format of Gemma's."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from thunder import digest
from thunder.text.chat import GEMMA_TEMPLATE

PAD, EOS, BOS, UNK, MASK = "<pad>", "<eos>", "<bos>", "<unk>", "<mask>"
TURN, END_OF_TURN = "<|turn>", "<turn|>"
SPECIAL = (PAD, EOS, BOS, UNK, MASK, TURN, END_OF_TURN)


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> bytes:
    """Train the sentencepiece model on text lines; returns its file's bytes.

    Ids of <pad>, <eos>, <bos>, <unk> are 0 to 3, as in Gemma's. Text is not normalized and spaces are kept. Characters
    outside of the pieces fall back to bytes, so that no text is unknown.
    """
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=stream,
        model_type="bpe",
        vocab_size=vocab_size,
        byte_fallback=True,
        character_coverage=0.9998,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece=PAD,
        eos_piece=EOS,
        bos_piece=BOS,
        unk_piece=UNK,
        user_defined_symbols=[MASK, TURN, END_OF_TURN, "\n"],
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        split_digits=True,
        max_sentence_length=16384,
        num_threads=1,
        minloglevel=2,
    )
    return stream.getvalue()


def to_fast_tokenizer(model: bytes) -> Tokenizer:
    """The same tokenizer for the `tokenizers` library; it gives equal ids for every text (tested)."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [processor.id_to_piece(number) for number in range(processor.vocab_size())]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    # sentencepiece merges the pair whose result has the best score, which falls with the id
    merges = []
    for number, piece in enumerate(pieces):
        if (
            processor.is_control(number)
            or processor.is_byte(number)
            or processor.is_unknown(number)
            or piece in SPECIAL
        ):
            continue
        splits = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [pair for pair in splits if pair[0] in vocabulary and pair[1] in vocabulary]
        merges += sorted(known, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token=UNK, fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken("\n", normalized=False)])
    return tokenizer


def save_tokenizer(folder: Path, model: bytes, max_length: int) -> None:
    """Write tokenizer.model, tokenizer.json, tokenizer_config.json and chat_template.jinja into a model folder."""
    settings: dict[str, Any] = {
        "tokenizer_class": "GemmaTokenizer",
        "add_bos_token": False,
        "add_eos_token": False,
        "pad_token": PAD,
        "eos_token": END_OF_TURN,
        "bos_token": BOS,
        "unk_token": UNK,
        "mask_token": MASK,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
    }
    digest.write_atomically(folder / "tokenizer.model", model)
    digest.write_atomically(folder / "tokenizer.json", to_fast_tokenizer(model).to_str(pretty=False))
    digest.write_json(folder / "tokenizer_config.json", settings)
    digest.write_atomically(folder / "chat_template.jinja", GEMMA_TEMPLATE)
