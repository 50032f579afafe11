"""Rows of training, validation and test: held out by reference, leaks told, too few or too long refused."""

from __future__ import annotations

import pytest
from conftest import make_rows, write_rows

from thunder import digest
from thunder.errors import CorpusError
from thunder.lora import datasets
from thunder.lora.lora_settings import VALID_ROWS, LoraSettings
from thunder.lora.prompts.load_prompts import load_prompt_format


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_prompt_format(tiny_model)


def settings_for(folder, **changes):
    return LoraSettings(**({"train_data": str(folder / "train.jsonl")} | changes))


def test_more_ranks_than_rows(tokenizer, tmp_path):
    write_rows(tmp_path / "train.jsonl", make_rows(3))
    with pytest.raises(CorpusError, match="3 training rows for 4 ranks"):
        datasets.prepare_datasets(settings_for(tmp_path, holdout=0.0), tokenizer, 4)


def test_all_rows_too_long(tokenizer, tmp_path):
    write_rows(tmp_path / "train.jsonl", make_rows(3))
    with pytest.raises(CorpusError, match="none of 3 training rows has its completion within 8 tokens"):
        datasets.prepare_datasets(settings_for(tmp_path, holdout=0.0, max_seq_length=8), tokenizer, 1)


def test_parts_without_a_file_are_held_out_by_reference(tokenizer, tmp_path):
    write_rows(tmp_path / "train.jsonl", make_rows(400))
    rows = datasets.read_datasets(settings_for(tmp_path, holdout=0.1))
    parts = {
        name: {row.reference for row in part} for name, part in (("t", rows.train), ("v", rows.valid), ("e", rows.test))
    }
    assert all(parts.values())
    assert not parts["t"] & (parts["v"] | parts["e"]) and not parts["v"] & parts["e"]
    assert len(rows.train) + len(rows.valid) + len(rows.test) == 400
    assert len(datasets.read_datasets(settings_for(tmp_path, holdout=0.1, test_rows=5)).test) == 5


def test_a_leak_between_given_files_is_said(tokenizer, tmp_path):
    write_rows(tmp_path / "train.jsonl", make_rows(10))
    write_rows(tmp_path / "valid.jsonl", make_rows(10)[:2])
    rows = datasets.read_datasets(LoraSettings(data=str(tmp_path)))
    assert any("leak" in note for note in rows.notes)


def test_a_folder_without_training_rows(tmp_path):
    with pytest.raises(CorpusError, match="no train.jsonl"):
        datasets.read_datasets(LoraSettings(data=str(tmp_path)))


def test_an_instruction_of_a_row_is_trained_on(tokenizer, tmp_path):
    rows = [{"instruction": f"Repair {n}:", "input": "ߓߊ", "output": f"ߓߊ߬ {n}"} for n in range(8)]
    write_rows(tmp_path / "train.jsonl", rows)
    read = datasets.read_datasets(settings_for(tmp_path, holdout=0.0))
    assert [row.messages[0]["content"] for row in read.train] == [f"Repair {n}:\nߓߊ" for n in range(8)]


def test_a_run_of_version_0_1_0_does_not_resume_on_other_parts(tmp_path):
    """The digest holds the rules that it did not have, and stays as it was where they do not matter."""
    write_rows(tmp_path / "train.jsonl", make_rows(400))
    plain = datasets.read_datasets(settings_for(tmp_path, holdout=0.1))
    assert plain.rules == () and plain.digest() == digest.sha256_json(sorted(plain.files.values()))
    write_rows(
        tmp_path / "train.jsonl",
        [row | {"split": "test" if n < 9 else "train"} for n, row in enumerate(make_rows(400))],
    )
    own = datasets.read_datasets(settings_for(tmp_path, holdout=0.1))
    anew = datasets.read_datasets(settings_for(tmp_path, holdout=0.1, split="by-reference"))
    assert own.files == anew.files and own.digest() != anew.digest() == digest.sha256_json(sorted(anew.files.values()))


def test_an_empty_file_named_with_an_option_is_as_if_it_were_not_there(tmp_path):
    write_rows(tmp_path / "train.jsonl", make_rows(40))
    (tmp_path / "none.jsonl").write_text("\n")
    read = datasets.read_datasets(settings_for(tmp_path, valid_data=str(tmp_path / "none.jsonl")))
    assert len(read.valid) == 3 and any("none.jsonl: empty, as if it were not there" in note for note in read.notes)


def test_fields_are_named_and_groups_kept_apart(tmp_path):
    rows = [{"key": n, "heard": "ߓߊ", "said": f"ߓߊ߬ {n}", "voice": f"v{n % 3}"} for n in range(30)]
    write_rows(tmp_path / "train.jsonl", rows)
    read = datasets.read_datasets(settings_for(tmp_path, fields="hyp=heard,ref=said,id=key", group_by="voice"))
    parts = [{row.fields["voice"] for row in part} for part in (read.train, read.valid, read.test)]
    assert sorted(map(len, parts)) == [1, 1, 1] and len(set.union(*parts)) == 3
    assert read.train[0].row_id in {str(n) for n in range(30)}


def test_validation_and_test_by_batches_are_chosen_by_hash_for_any_order(tmp_path):
    write_rows(tmp_path / "train.jsonl", make_rows(4))
    write_rows(tmp_path / "test.jsonl", make_rows(30, seed=4))
    valid = make_rows(VALID_ROWS + 40, seed=1)
    write_rows(tmp_path / "valid.jsonl", valid)

    def read(**options):
        rows = datasets.read_datasets(LoraSettings(data=str(tmp_path), batch_size=3, **options))
        return [row.reference for row in rows.valid], rows

    some, rows = read(val_batches=5, test_batches=2)
    assert (len(some), len(rows.test)) == (15, 6), "batches of batch_size rows, as in mlx_lm"
    assert any(note.startswith("valid: 15 of 540 rows, by hash") for note in rows.notes)
    assert len(read(val_batches=-1, test_batches=-1)[0]) == VALID_ROWS + 40
    assert len(read(test_batches=-1)[1].test) == 30
    assert len(read()[0]) == VALID_ROWS and len(read(val_batches=0)[0]) == 0
    write_rows(tmp_path / "valid.jsonl", valid[::-1])
    assert sorted(read(val_batches=5)[0]) == sorted(some)
    write_rows(tmp_path / "valid.jsonl", valid[:VALID_ROWS])
    whole, rows = read()
    assert whole == [row["messages"][1]["content"] for row in valid[:VALID_ROWS]], "a small set stays as it is"
    assert not any("by hash" in note for note in rows.notes)
