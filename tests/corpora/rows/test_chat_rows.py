import hashlib
import json
from pathlib import Path

import pytest
from conftest import TEST_DATA, shipped_and_whole

from thunder.corpora.rows.chat_rows import PAIRS, VERBATIM, read_row_files, read_rows
from thunder.errors import CorpusError
from thunder.text.chat import CORRECTION_INSTRUCTION, correction_messages

GOOD = {"messages": correction_messages("ߓߊ", "ߓߊ߬")}


def turns(*said: tuple[str, str]) -> dict:
    return {"messages": [{"role": role, "content": content} for role, content in said]}


@pytest.fixture
def write(tmp_path):
    """Write lines (objects, texts or bytes) into rows.jsonl."""

    def write(*lines, end: bytes = b"\n") -> Path:
        def encode(line) -> bytes:
            if isinstance(line, bytes):
                return line
            return (line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)).encode()

        path = tmp_path / "rows.jsonl"
        path.write_bytes(b"\n".join(map(encode, lines)) + end)
        return path

    return write


def refusal(path: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        read_rows(path)
    assert caught.value.exit_code == 2
    assert caught.value.fix
    return caught.value.message


def test_chat_rows_are_read_with_their_fields(write):
    path = write(GOOD | {"id": "one", "cer_edits": 1, "origin": "synthetic"})
    corpus = read_rows(path)
    (row,) = corpus.rows
    assert (row.row_id, row.source) == ("one", "rows.jsonl:1")
    assert row.fields == {"id": "one", "cer_edits": 1, "origin": "synthetic"}
    assert row.prompt_messages == (GOOD["messages"][0],)
    assert (row.asr_text, row.reference) == ("ߓߊ", "ߓߊ߬")
    assert corpus.mapping is None
    assert corpus.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_field_asr_text_wins_over_the_prompt(write):
    (row,) = read_rows(write(GOOD | {"asr_text": "ߓߌ"})).rows
    assert row.asr_text == "ߓߌ"


def test_a_prompt_without_the_instruction_is_the_text_as_it_is(write):
    (row,) = read_rows(write(turns(("system", ""), ("user", "ߓߊ"), ("assistant", "ߓߊ߬")))).rows
    assert row.asr_text == "ߓߊ"
    assert not row.is_correction


def test_the_last_of_several_turns_is_the_answer(write):
    said = (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    (row,) = read_rows(write(turns(*said))).rows
    assert (row.asr_text, row.reference, len(row.prompt_messages)) == ("c", "d", 3)


@pytest.mark.parametrize("question, answer", PAIRS)
def test_known_pairs_become_messages(write, question, answer):
    corpus = read_rows(write({question: "ߓߊ", answer: "ߓߊ߬", "n": 1}))
    (row,) = corpus.rows
    assert corpus.mapping == f"{question} -> user, {answer} -> assistant"
    assert row.asr_text == "ߓߊ"
    assert row.reference == "ߓߊ߬"
    asks = "" if (question, answer) == VERBATIM else f"{CORRECTION_INSTRUCTION}\n"
    assert row.messages[0] == {"role": "user", "content": f"{asks}ߓߊ"}
    assert row.fields == {question: "ߓߊ", answer: "ߓߊ߬", "n": 1}


def test_pairs_are_tried_in_order_and_messages_win(write):
    pairs = {"hyp": "a", "ref": "b", "before": "c", "after": "d"}
    assert read_rows(write(pairs)).mapping == "before -> user, after -> assistant"
    assert read_rows(write(GOOD | pairs)).mapping is None


@pytest.mark.parametrize("name", ["id", "feat_id", "row_id"])
def test_a_row_is_named_by_its_id_field(write, name):
    assert read_rows(write(GOOD | {name: "x"})).rows[0].row_id == "x"


def test_a_row_without_a_name_is_named_by_its_line(write):
    corpus = read_rows(write("", GOOD, GOOD | {"id": ""}, GOOD | {"id": None}))
    assert [row.row_id for row in corpus.rows] == ["rows-2", "rows-3", "rows-4"]


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (7.0, "7"), (0, "0"), ("07", "07"), (10**30, str(10**30))])
def test_a_whole_number_is_an_id(write, value, text):
    (row,) = read_rows(write(GOOD | {"id": value, "audio_id": value})).rows
    assert (row.row_id, row.fields["id"], row.fields["audio_id"]) == (text, text, text)


@pytest.mark.parametrize("value", [True, 1.5, [1], {"a": 1}])
def test_another_value_is_no_id(write, value):
    assert ":1: 'feat_id' is " in refusal(write(GOOD | {"feat_id": value}))


def test_blank_lines_are_skipped_and_counted(write):
    corpus = read_rows(write("", GOOD, "  \t", GOOD, ""))
    assert (len(corpus.rows), corpus.blank_lines) == (2, 3)


def test_duplicates_are_kept_and_counted(write):
    corpus = read_rows(write(GOOD | {"id": "a"}, GOOD | {"id": "b"}, turns(("user", "x"), ("assistant", "y"))))
    assert (len(corpus.rows), corpus.duplicates) == (3, 1)


def test_a_byte_order_mark_and_crlf_are_accepted(write):
    line = json.dumps(GOOD).encode()
    corpus = read_rows(write(b"\xef\xbb\xbf" + line + b"\r", line + b"\r"))
    assert (len(corpus.rows), corpus.blank_lines) == (2, 0)


def test_a_whole_last_line_needs_no_line_end(write):
    assert len(read_rows(write(GOOD, GOOD, end=b"")).rows) == 2


def test_the_summary_has_the_error_rate_of_the_corrections(write):
    corpus = read_rows(write(GOOD, turns(("user", "x"), ("assistant", "y"))))
    assert corpus.summary() | {"path": "", "sha256": ""} == {
        "path": "",
        "rows": 2,
        "mapping": None,
        "blank_lines": 0,
        "duplicates": 0,
        "cer": pytest.approx(1 / 3),
        "sha256": "",
        "form": "JSONL",
        "reading": {},
        "unused_fields": {},
    }
    assert corpus.describe() == f"{corpus.path}: 2 rows, messages, CER 0.3333 (1 edits in 3 code points)"


def test_without_corrections_there_is_no_error_rate(write):
    assert read_rows(write(turns(("user", "x"), ("assistant", "y")))).summary()["cer"] is None


def test_a_missing_file(tmp_path):
    assert "No such file" in refusal(tmp_path / "none.jsonl")


def test_a_folder(tmp_path):
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_a_file_without_rows(write, content):
    assert "has no rows" in refusal(write(content, end=b""))


def test_bytes_that_are_not_utf8(write):
    assert ":2: byte 3 of the line (0xff) is not UTF-8" in refusal(write(GOOD, b'{"\xff": 1}'))


def test_a_file_in_utf16(write):
    path = write(json.dumps(GOOD).encode("utf-16"))
    assert refusal(path) == f"{path}: is UTF-16, not UTF-8"


def test_a_line_that_is_not_json(write):
    assert ":1: not JSON at column 2:" in refusal(write("{nope}", GOOD))


def test_json_nested_too_deep(write):
    assert ":1: JSON that cannot be read" in refusal(write("[" * 200_000 + "]" * 200_000))


def test_a_last_line_that_is_cut_off(write):
    whole = json.dumps(GOOD, ensure_ascii=False).encode()
    assert ":2: looks cut off: not JSON" in refusal(write(GOOD, whole[:-3], end=b""))


def test_a_last_line_that_is_cut_off_inside_a_character(write):
    whole = json.dumps(GOOD, ensure_ascii=False).encode()
    cut = whole[: whole.index("ߓ".encode()) + 1]
    assert ":2: looks cut off: byte" in refusal(write(GOOD, cut, end=b""))


@pytest.mark.parametrize("value, kind", [("[1]", "a list"), ('"a"', "a text"), ("3", "a number"), ("null", "null")])
def test_a_line_that_is_not_an_object(write, value, kind):
    assert f":1: expected an object, found {kind}" in refusal(write(value))


def test_an_unknown_shape_says_what_was_found_and_what_is_known(write):
    message = refusal(write({"source": "a", "target": "b"}))
    assert "found 'source', 'target'" in message
    assert "asr_text + reference_text" in message
    assert "input + output" in message


def test_an_object_without_keys(write):
    assert "found nothing" in refusal(write({}))


def test_messages_that_are_not_a_list(write):
    assert ":1: 'messages' is a text, not a list" in refusal(write({"messages": "a"}))


def test_messages_without_any(write):
    assert "has no assistant turn" in refusal(write({"messages": []}))


def test_a_message_that_is_not_an_object(write):
    assert "message 1 is a text, not an object" in refusal(write({"messages": ["a"]}))


def test_a_message_without_a_role(write):
    assert "message 1: 'role' is missing" in refusal(write({"messages": [{"content": "a"}]}))


def test_a_message_without_content(write):
    assert "message 1: 'content' is missing" in refusal(write({"messages": [{"role": "user"}]}))


def test_content_that_is_not_text(write):
    assert "message 1: 'content' is an object, not a text" in refusal(
        write({"messages": [{"role": "user", "content": {}}]})
    )


def test_an_unknown_role(write):
    assert "message 1: unknown role 'nobody'" in refusal(write(turns(("nobody", "a"), ("assistant", "b"))))


def test_no_assistant_turn(write):
    assert "has no assistant turn" in refusal(write(turns(("user", "a"))))


def test_a_last_turn_that_is_not_the_assistants(write):
    said = (("user", "a"), ("assistant", "b"), ("user", "c"))
    assert "the last turn is the user's" in refusal(write(turns(*said)))


def test_no_user_turn(write):
    assert "has no user turn" in refusal(write(turns(("assistant", "b"))))


def test_an_empty_answer(write):
    assert "message 2: the assistant content is empty" in refusal(write(turns(("user", "a"), ("assistant", " \n"))))


def test_an_empty_question(write):
    assert "message 1: the user content is empty" in refusal(write(turns(("user", ""), ("assistant", "b"))))


def test_half_of_a_surrogate_pair(write):
    line = json.dumps(turns(("user", "a\ud800"), ("assistant", "b")))
    assert "message 1: character 2 is half of a surrogate pair" in refusal(write(line))


@pytest.mark.parametrize("key", ["asr_text", "id", "feat_id", "row_id"])
def test_half_of_a_surrogate_pair_in_a_field(write, key):
    line = json.dumps(GOOD | {"id": "one", key: "a\ud800"})
    assert f":1: '{key}' character 2 is half of a surrogate pair" in refusal(write(line))


@pytest.mark.parametrize("key", ["hyp", "ref"])
def test_half_of_a_surrogate_pair_in_a_pair(write, key):
    line = json.dumps({"hyp": "a", "ref": "b"} | {key: "\udc00"})
    assert f":1: '{key}' character 1 is half of a surrogate pair" in refusal(write(line))


def test_half_of_a_surrogate_pair_as_a_role_can_be_printed(write):
    assert "unknown role '\\ud800'" in refusal(write(json.dumps(turns(("\ud800", "a")))))


def test_an_asr_text_that_is_not_text(write):
    assert "'asr_text' is a number, not a text" in refusal(write(GOOD | {"asr_text": 3}))


@pytest.mark.parametrize("value, reason", [("", "is empty"), (3, "is a number, not a text"), (None, "is null")])
def test_a_pair_with_a_value_that_is_no_use(write, value, reason):
    assert f":1: 'after' {reason}" in refusal(write({"before": "a", "after": value}))


@pytest.mark.parametrize("question, answer", [pair for pair in PAIRS if pair[0] != "prompt"])
@pytest.mark.parametrize("heard", ["", " "])
def test_a_recognizer_may_have_heard_nothing(write, question, answer, heard):
    corpus = read_rows(write({question: heard, answer: "ߓߊ"}))
    (row,) = corpus.rows
    assert (row.asr_text, row.reference, row.is_correction) == (heard, "ߓߊ", True)
    assert row.messages[0]["content"] == f"{CORRECTION_INSTRUCTION}\n{heard}"
    assert corpus.errors_before is not None and corpus.errors_before.edits == 2


@pytest.mark.parametrize("key", ["prompt", "completion"])
def test_a_prompt_or_its_completion_cannot_be_empty(write, key):
    assert f":1: '{key}' is empty" in refusal(write({"prompt": "a", "completion": "b"} | {key: " "}))


def test_rows_of_two_shapes(write):
    message = refusal(write({"hyp": "a", "ref": "b"}, {"before": "a", "after": "b"}))
    assert (
        ":2: has the format 'before -> user, after -> assistant', but line 1 has 'hyp -> user, ref -> assistant'"
        in message
    )


def test_pairs_among_chat_rows(write):
    assert "but line 1 has 'messages'" in refusal(write(GOOD, {"hyp": "a", "ref": "b"}))


def test_all_faults_are_listed_at_once(write):
    message = refusal(write("{", GOOD, [], {"messages": 3}))
    assert [line.split(":")[1] for line in message.splitlines()[1:]] == ["1", "3", "4"]


def test_the_faults_of_all_files_are_listed_at_once(write, tmp_path):
    with pytest.raises(CorpusError) as caught:
        read_row_files([tmp_path / "none.jsonl", write("{")])
    assert "none.jsonl" in caught.value.message
    assert "rows.jsonl:1" in caught.value.message


@pytest.mark.parametrize(("path", "rows"), shipped_and_whole("rows/nqo_human_edits_v1_to_v4.jsonl", 372, whole=(4459,)))
def test_real_human_edits_are_read_as_they_are(path, rows):
    corpus = read_rows(path)
    assert len(corpus.rows) == rows
    assert corpus.mapping == "before -> user, after -> assistant"
    assert corpus.rows[0].row_id == "nllb-0000"


def test_a_real_recognizers_log_is_read_as_it_is():
    """One of its hypotheses is empty."""
    corpus = read_rows(TEST_DATA / "rows" / "bam_asr_hyp_ref_nemo_log.jsonl")
    assert len(corpus.rows) == 1352
    assert corpus.mapping == "hyp -> user, ref -> assistant"
    assert [row.row_id for row in corpus.rows if not row.asr_text] == ["nemo-0356"]


@pytest.mark.parametrize("row", [
    {"hyp": "a", "ref": ""}, {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]},
])  # fmt: skip
def test_an_empty_answer_is_read_only_where_it_is_asked_for(tmp_path, row):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(CorpusError, match="empty"):
        read_rows(path)
    assert not read_rows(path, references="empty").rows[0].reference.strip()
