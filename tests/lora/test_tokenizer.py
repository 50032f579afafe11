"""The tokenizer that we write equals sentencepiece's own on any text, and loses nothing."""

from __future__ import annotations

import random

import pytest
import sentencepiece
from hypothesis import assume, given
from hypothesis import strategies as st

from thunder.lora import open_text, pretraining, tokenizer
from thunder.lora.lora_settings import EMBEDDED_MODEL, PretrainSettings
from thunder.lora.prompts import load_prompts
from thunder.text import chat

TEXTS = st.text(
    st.one_of(st.characters(min_codepoint=0x7C0, max_codepoint=0x7FA), st.sampled_from(" ab\n.،߸߫"), st.characters())
)


@pytest.fixture(scope="module", params=["fresh", "shipped"])
def folder(request, tiny_model):
    return tiny_model if request.param == "fresh" else EMBEDDED_MODEL


@pytest.fixture(scope="module")
def pieces(folder):
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


@pytest.fixture(scope="module")
def fast(folder):
    return load_prompts.load_tokenizer(folder)


def same(pieces, fast, text):
    ids = pieces.encode(text)
    assert fast.encode(text, add_special_tokens=False) == ids
    assert fast.decode(ids) == text


def test_any_text(pieces, fast):
    @given(TEXTS)
    def check(text):
        # Surrogates cannot be encoded, U+2581 is sentencepiece's own sign for a space, and the names of control
        # tokens are read as such by transformers only
        assume(not any(token in text for token in tokenizer.SPECIAL))
        same(pieces, fast, "".join(letter for letter in text if letter != "▁" and not "\ud800" <= letter <= "\udfff"))

    check()


@pytest.mark.parametrize(
    "text", ["", " ", "  ߊ  ߋ ", "abc\n\nx", "é汉字 🙂", "ߊ߬ ߞߊ߬", "<|turn>user\nߊ<turn|>\n", "߀߁߂ 123"]
)
def test_known_traps(pieces, fast, text):
    same(pieces, fast, text)


def test_special_tokens_are_where_gemma_has_them(fast):
    assert [fast.convert_tokens_to_ids(token) for token in ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")] == list(
        range(5)
    )
    assert (fast.pad_token_id, fast.bos_token_id) == (0, 2)
    assert fast.eos_token == tokenizer.END_OF_TURN
    assert len(fast) == fast.vocab_size, "a token was added beside the vocabulary: its embedding row would be missing"


def test_pretraining_writes_turns_as_the_chat_template_does(pieces, fast):
    task = pretraining.PretrainTask.__new__(pretraining.PretrainTask)
    task.pieces = pieces
    task.turn, task.end, task.newline = (
        pieces.piece_to_id(piece) for piece in (tokenizer.TURN, tokenizer.END_OF_TURN, "\n")
    )
    prompt, answer = task._turns("ߊ߬ ߞߊ", "ߊ߬ ߞߊ߬")
    messages = chat.correction_messages("ߊ߬ ߞߊ", "ߊ߬ ߞߊ߬")
    assert fast.apply_chat_template(messages, return_dict=False) == prompt + answer
    assert fast.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=False) == prompt


def test_noise_and_sequences_depend_on_the_seed_alone(tmp_path):
    draw = random.Random(4)
    words = "ߊ߬ ߞߊ߬ ߕߊ߯ ߛߏ ߡߐ߱ ߓߘߊ߫ ߣߊ߬ ߟߊ߫ ߦߋ߫ ߡߎ߰ߛߏ".split()
    lines = [" ".join(draw.choices(words, k=draw.randint(3, 20))) for _ in range(200)]
    (tmp_path / "text.tsv").write_text("id\tnqo\n" + "".join(f"{i}\t{line}\n" for i, line in enumerate(lines)))
    settings = PretrainSettings(
        text_root=str(tmp_path), text=["text.tsv"], vocab_size=320, hidden_size=16, num_hidden_layers=4,
        num_kv_shared_layers=0, intermediate_size=16, max_seq_length=48, iters=4, heldout=0.1,
    )  # fmt: skip
    text = open_text.read_open_text(settings)
    assert not set(text.train) & set(text.heldout)
    first, second = (pretraining.PretrainTask(settings, text) for _ in range(2))
    assert first.tokenizer_model == second.tokenizer_model
    for epoch in (0, 1):
        a, b = first.batch([0, 3, 1], epoch), second.batch([0, 3, 1], epoch)
        assert all((x == y).all().item() for x, y in zip(a.arrays, b.arrays, strict=True)) and a.tokens == b.tokens > 0
    assert not (first.batch([0, 3, 1], 0).arrays[0] == first.batch([0, 3, 1], 1).arrays[0]).all().item()


def test_every_held_out_byte_is_counted_once(tmp_path):
    lines = ["ߊ߬ ߞߊ߬ ߕߊ߯ ߛߏ " * n for n in range(1, 40)]
    (tmp_path / "text.tsv").write_text("id\tnqo\n" + "".join(f"{i}\t{line}\n" for i, line in enumerate(lines)))
    settings = PretrainSettings(
        text_root=str(tmp_path), text=["text.tsv"], vocab_size=320, hidden_size=16, num_hidden_layers=4,
        num_kv_shared_layers=0, intermediate_size=16, max_seq_length=24, iters=1, heldout=0.3, batch_size=4,
    )  # fmt: skip
    task = pretraining.PretrainTask(settings, open_text.read_open_text(settings))
    expected = sum(len(task.pieces.encode(line)) + 1 for line in task.text.heldout)
    for size in (1, 2):
        counted = [
            batch.tokens for rank in range(size) for group, batch in task.validation(rank, size) if group == "text"
        ]
        assert sum(counted) == expected
