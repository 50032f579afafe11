"""Files of rows in the shapes and encodings that people hand in, each with what is to be made of it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORDS = "ߒ ߞߊ߲߫ ߦߋ߫ ߛߓߍ߫ ߟߊ߫ ߘߐ߫ ߞߊ߬ߙߊ߲ ߡߐ߱ ߞߎߡߊ ߓߏߟߏ ߖߌ߬ ߕߎߡߊ ߛߏ߫ ߘߎ߱".split()
INSTRUCTION = "Correct this N'Ko transcript:"
ROWS = 30


@dataclass(frozen=True)
class RowFileCase:
    """A file or folder of rows. rows: those that are read, all of them for training or held out; None: refused.

    said: words of the plan and of `corpus validate`; of the refusal where the file is refused, with `fix`.
    lines: most lines of a refusal. held: validation and test rows.
    """

    name: str
    write: Callable[[Path], None]
    rows: int | None = ROWS
    said: tuple[str, ...] = ()
    fix: str = ""
    lines: int = 2
    held: tuple[int, int] = (3, 3)


def pair(number: int) -> tuple[str, str]:
    """A recognized text with an error, and the correct text."""
    correct = " ".join(random.Random(number).choices(WORDS, k=5)) + f" {WORDS[number % len(WORDS)]}"
    return correct.replace("߫", "", 1).replace("߬", "", 1), correct


def question(number: int) -> str:
    return f"{INSTRUCTION}\n{pair(number)[0]}"


def chat(*turns: tuple[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]} | more


def plain(number: int, **more: Any) -> dict[str, Any]:
    return chat(("user", question(number)), ("assistant", pair(number)[1]), **more)


def rows_of(make: Callable[[int], Any], count: int = ROWS) -> list[Any]:
    return [make(number) for number in range(count)]


def jsonl(rows: Sequence[Any], end: str = "\n", encoding: str = "utf-8") -> bytes:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    return (end.join(lines) + end).encode(encoding)


def table(delimiter: str, header: Sequence[str] = ("hyp", "ref"), quoted: bool = True) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\r\n" if quoted else "\n")
    writer.writerows([list(header), *(pair(number) for number in range(ROWS))])
    return stream.getvalue().encode()


def file(name: str, content: bytes | Sequence[Any], rows: int | None = ROWS, **expected: Any) -> RowFileCase:
    data = content if isinstance(content, bytes) else jsonl(content)
    return RowFileCase(name, lambda folder: (folder / name).write_bytes(data) and None, rows, **expected)


def folder(name: str, files: dict[str, bytes], rows: int | None = ROWS, **expected: Any) -> RowFileCase:
    def write(place: Path) -> None:
        (place / name).mkdir()
        for part, content in files.items():
            (place / name / part).write_bytes(content)

    return RowFileCase(name, write, rows, **expected)


def with_row(number: int, row: Any) -> list[Any]:
    """Plain rows, one of them replaced."""
    return [*rows_of(plain)[:number], row, *rows_of(plain)[number + 1 :]]


def chat_cases() -> list[RowFileCase]:
    """Chat rows and their relatives."""
    tool = {"type": "function", "function": {"name": "lookup", "parameters": {"type": "object", "properties": {}}}}
    call = {"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": "{}"}}

    def answer(number: int, **more: Any) -> dict[str, Any]:
        row = plain(number)
        row["messages"][1] |= more
        return row

    def turns(number: int) -> list[dict[str, Any]]:
        return plain(number)["messages"] + plain(number + 1)["messages"]

    def with_tool_call(number: int) -> dict[str, Any]:
        asked, answered = plain(number)["messages"]
        called = {"role": "assistant", "content": None, "tool_calls": [call]}
        return {"messages": [asked, called, {"role": "tool", "tool_call_id": "c1", "content": "ok"}, answered]}

    def weighted(number: int, *weights: int) -> dict[str, Any]:
        messages = turns(number)
        for message, weight in zip(messages[1::2], weights, strict=True):
            message["weight"] = weight
        return {"messages": messages}

    def parts(number: int) -> dict[str, Any]:
        return chat(*((m["role"], [{"type": "text", "text": m["content"]}]) for m in plain(number)["messages"]))

    def shared(number: int) -> dict[str, Any]:
        return {
            "conversations": [{"from": "human", "value": question(number)}, {"from": "gpt", "value": pair(number)[1]}]
        }

    earlier = "earlier assistant turns, part of the prompt (30 rows)"
    return [
        file("plain.jsonl", rows_of(plain), said=("30 rows, messages",)),
        file("sharegpt.jsonl", rows_of(shared),
             said=("conversations -> messages", "'gpt' read as 'assistant' (30 rows)")),
        file("sharegpt-system.jsonl", rows_of(lambda n: shared(n) | {"system": "Repair."}),
             said=("'system' is the system turn",)),
        file("roles.jsonl", rows_of(lambda n: chat(("human", question(n)), ("model", pair(n)[1]))),
             said=("role 'human' read as 'user' (30 rows)", "role 'model' read as 'assistant' (30 rows)")),
        file("system.jsonl", rows_of(lambda n: chat(("system", "Repair N'Ko."), *turn_pairs(plain(n))))),
        file("multiturn.jsonl", rows_of(lambda n: {"messages": turns(n)}), said=(earlier,)),
        file("tools.jsonl", rows_of(lambda n: plain(n, tools=[tool])),
             said=("'tools' in the prompt, as far as the chat template uses them (30 rows)",)),
        file("toolcalls.jsonl", rows_of(with_tool_call), said=("'tool_calls' in the prompt", "'tool_call_id' in the")),
        file("toolanswer.jsonl", rows_of(lambda n: answer(n, content=None, tool_calls=[call])), None,
             said=("message 2: the assistant content is empty (also lines 2, 3, 4 and 26 more)",)),
        file("parts.jsonl", rows_of(parts)),
        file("image.jsonl", rows_of(lambda n: answer(n, content=[{"type": "image_url", "image_url": {"url": "x"}}])),
             None, said=("part 1 of 'content' is 'image_url'",)),
        file("reasoning.jsonl", rows_of(lambda n: answer(n, reasoning_content="well ...")),
             said=("'reasoning_content' of the answer, not trained on (30 rows)",)),
        file("weight.jsonl", rows_of(lambda n: weighted(n, 0, 1)), said=("only the last turn of weight 1",)),
        file("weight-first.jsonl", rows_of(lambda n: weighted(n, 1, 0)),
             said=("turns after the last of weight 1 left out (30 rows)",)),
        file("weight-none.jsonl", rows_of(lambda n: weighted(n, 0, 0)), None,
             said=("every assistant turn has weight 0",)),
        file("thoughts.jsonl", rows_of(lambda n: answer(n, content=f"<think>\n\n</think>\n\n{pair(n)[1]}"))),
        file("twouser.jsonl",
             rows_of(lambda n: chat(("user", question(n)), ("user", "again"), ("assistant", pair(n)[1])))),
        file("lastuser.jsonl", rows_of(lambda n: chat(*turn_pairs(plain(n)), ("user", "thanks"))), None,
             said=("the last turn is the user's", "(also lines 2, 3, 4 and 26 more)"), fix="last assistant turn"),
        file("nouser.jsonl", rows_of(lambda n: chat(("assistant", pair(n)[1]))), None,
             said=("has no user turn (also lines 2",), fix="as a user turn"),
        file("emptyanswer.jsonl", with_row(4, chat(("user", "a"), ("assistant", ""))), None,
             said=(":5: message 2: the assistant content is empty",)),
        file("nullanswer.jsonl", with_row(4, chat(("user", "a"), ("assistant", None))), None,
             said=(":5: message 2: 'content' is null",)),
        file("emptyuser.jsonl", with_row(4, chat(("user", ""), ("assistant", "b"))), None,
             said=(":5: message 1: the user content is empty",)),
        file("blank.jsonl",
             [*with_row(4, chat(("user", "  "), ("assistant", "b"))), chat(("user", "a"), ("assistant", "\n"))], None,
             said=(":5: message 1: the user", ":31: message 2: the assistant"), lines=3),
    ]  # fmt: skip


def turn_pairs(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in row["messages"]]


def pair_cases() -> list[RowFileCase]:
    """Prompts with answers, and recognized texts with references."""

    def named(hyp: str, ref: str, **more: Any) -> Callable[[int], dict[str, Any]]:
        return lambda number: {hyp: pair(number)[0], ref: pair(number)[1]} | more

    def n_best(key: str, ref: str, **more: Any) -> Callable[[int], dict[str, Any]]:
        return lambda number: {key: [pair(number)[0], WORDS[0]], ref: pair(number)[1]} | more

    def lists(number: int) -> dict[str, Any]:
        asked, answered = plain(number)["messages"]
        return {"prompt": [asked], "completion": [answered]}

    def alpaca(number: int, **more: Any) -> dict[str, Any]:
        return {"instruction": INSTRUCTION, "input": pair(number)[0], "output": pair(number)[1]} | more

    others = "other hypotheses (30 rows)"
    return [
        file("beforeafter.jsonl", rows_of(named("before", "after")), said=("before -> user, after -> assistant",)),
        file("inputoutput.jsonl", rows_of(named("input", "output")), said=("input -> user",)),
        file("hypref.jsonl", rows_of(named("hyp", "ref", offset=1.5, channel=0, lang="nqo")),
             said=("fields not used: offset (30 rows), channel (30 rows), lang (30 rows)",)),
        file("nemo_manifest.jsonl", rows_of(named("pred_text", "text", audio_filepath="a.wav", duration=1.0)),
             said=("pred_text -> user, text -> assistant", "audio_filepath (30 rows), duration (30 rows)")),
        file("prediction.jsonl", rows_of(named("prediction", "reference")), said=("prediction -> user",)),
        file("candidate.jsonl", rows_of(named("asr_candidate", "reference", n_best=["a", "b"])),
             said=("asr_candidate -> user", "fields not used: n_best (30 rows)")),
        file("nbest-input.jsonl", rows_of(n_best("input", "output")), said=(others,)),
        file("nbest-objects.jsonl",
             rows_of(lambda n: {"hypotheses": [{"text": pair(n)[0]}, {"text": "x"}], "reference": pair(n)[1]}),
             said=(others,)),
        file("metadata.jsonl", rows_of(named("hyp", "ref", partition="boundary", trajectory_scalars={"a": 1.0})),
             said=("fields not used: partition (30 rows), trajectory_scalars (30 rows)",)),
        file("prompt.jsonl", rows_of(lambda n: {"prompt": question(n), "completion": pair(n)[1]})),
        file("prompt-system.jsonl",
             rows_of(lambda n: {"system": "Repair.", "prompt": question(n), "completion": pair(n)[1]}),
             said=("'system' is the system turn (30 rows)",)),
        file("prompt-lists.jsonl", rows_of(lists), said=("prompt + completion -> messages",)),
        file("preference.jsonl",
             rows_of(lambda n: {"prompt": question(n), "chosen": pair(n)[1], "rejected": pair(n)[0]}), None,
             said=("a preference row (chosen + rejected)",), fix="--fields prompt=prompt,completion=chosen"),
        file("alpaca.jsonl", rows_of(alpaca), said=("instruction + input -> user, output -> assistant, CER",)),
        file("alpaca-history.jsonl", rows_of(lambda n: alpaca(n, system="S", history=[["a", "b"]])),
             said=("'system' is the system turn", "earlier assistant turns")),
        file("dolly.jsonl",
             rows_of(lambda n: {"instruction": "Correct", "context": pair(n)[0], "response": pair(n)[1]}),
             said=("instruction + context -> user",)),
        file("text.jsonl", rows_of(lambda n: {"text": question(n)}), None,
             said=("plain text ('text' without a question)",), fix=" pretrain learns from plain text"),
        file("unknown.jsonl", rows_of(named("recognized", "gold")), None,
             said=("found 'recognized', 'gold'",), fix="--fields hyp=FIELD,ref=FIELD"),
        file("mixed.jsonl", [*rows_of(plain, 10), *rows_of(named("before", "after"), 10)], None,
             said=(":11: has the format 'before", "(also lines 12, 13, 14 and 6 more)"), fix="a file of their own"),
    ]  # fmt: skip


def encoding_cases() -> list[RowFileCase]:
    """Encodings, containers and damage."""
    good, text = jsonl(rows_of(plain)), rows_of(plain)
    nfd = [{name: unicodedata.normalize("NFD", f"é ɔ̀ {n} {name}") for name in ("before", "after")} for n in range(ROWS)]
    doubled = json.dumps(plain(0), ensure_ascii=False)[:-1] + ', "id": "a", "id": "b"}'
    half = json.dumps(plain(3)).replace("\\u07", "\\ud83d\\u07", 1)
    pretty = json.dumps(text[0], ensure_ascii=False, indent=2).encode() + b"\n"
    return [
        file("bom.jsonl", b"\xef\xbb\xbf" + good),
        file("crlf.jsonl", jsonl(text, "\r\n")),
        file("utf16.jsonl", jsonl(text, encoding="utf-16"), None,
             said=("is UTF-16, not UTF-8",), fix="iconv -f UTF-16"),
        file("utf16le.jsonl", jsonl(text, encoding="utf-16-le"), None, said=("is UTF-16LE",), fix="iconv -f UTF-16LE"),
        file("utf32.jsonl", jsonl(text, encoding="utf-32"), None, said=("is UTF-32",), fix="iconv -f UTF-32"),
        file("cr.jsonl", jsonl(text, "\r"), None, said=("its line ends are CR",), fix="tr '\\r' '\\n'"),
        file("latin1.jsonl", jsonl(with_row(2, '{"é": 1}')[2:], encoding="utf-8").replace("é".encode(), b"\xe9"), None,
             said=(":1: byte 3 of the line (0xe9) is not UTF-8",)),
        file("nfd.jsonl", nfd),
        file("surrogate.jsonl", with_row(3, half), None, said=(":4: message 1: character", "half of a surrogate pair")),
        file("keys.jsonl", with_row(0, doubled), None,
             said=(":1: the key 'id' occurs more than once",), fix="one of them"),
        file("broken.jsonl", with_row(7, json.dumps(plain(7))[:-20]), None, said=(":8: not JSON at",)),
        file("nul.jsonl", with_row(2, chat(("user", "a"), ("assistant", "b\0\u200b")))),
        file("array.json", json.dumps(text, ensure_ascii=False, indent=1).encode(), said=("30 rows, JSON array",)),
        file("array.jsonl", json.dumps(text).encode(), said=("30 rows, JSON array",)),
        file("cutarray.json", json.dumps(text).encode()[:-9], None, said=("a JSON array: not JSON at column",)),
        file("pretty.json", pretty * 3, None, said=("is JSON over several lines",), fix="jq -c ."),
        file("rows.csv", table(","), said=("30 rows, CSV, hyp -> user",)),
        file("bom.csv", b"\xef\xbb\xbf" + table(","), said=("30 rows, CSV",)),
        file("semicolon.csv", table(";"), said=("30 rows, CSV",)),
        file("rows.tsv", table("\t", quoted=False), said=("30 rows, TSV",)),
        file("columns.csv", table(",", ("heard", "said")), None,
             said=("found 'heard', 'said'",), fix="--fields hyp=FIELD,ref=FIELD"),
        file("twice.csv", table(",", ("hyp", "hyp")), None, said=("two columns are named 'hyp'",), fix="rename"),
        file("short.csv", table(",") + b"one\r\n", None, said=(":32: has 1 cells, but the header has 2",)),
        file("csv.jsonl", table(","), None, said=("is CSV with the columns hyp, ref, not JSONL",), fix="mv "),
        file("tsv.jsonl", table("\t"), None, said=("is tab-separated text (TSV) with the columns",), fix="csv.tsv"[4:]),
        file("words.jsonl", "ߒ ߞߊ߲߫\nߛߓߍ߫\n".encode(), None, said=("is plain text, not JSONL",)),
        file("rows.jsonl.gz", gzip.compress(good), said=("30 rows, messages",)),
        file("rows.csv.gz", gzip.compress(table(",")), said=("30 rows, CSV",)),
        file("cut.jsonl.gz", gzip.compress(good)[:-40], None, said=("is damaged or cut off",), fix="copy the file"),
        file("book.csv", b"PK\x03\x04rest", None,
             said=("is a zip archive, perhaps an Excel workbook",), fix="CSV UTF-8"),
        file("pointer.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", None,
             said=("a Git LFS pointer",), fix="git lfs pull"),
        file("page.jsonl", b"<!DOCTYPE html>\n<html></html>\n", None, said=("an HTML page",), fix="download"),
        file("nothing.jsonl", b"", None, said=("has no rows",)),
    ]  # fmt: skip


def division_cases() -> list[RowFileCase]:
    """How rows come to be validation and test rows."""
    unmeasured = "no validation rows (name some with --valid-data) and no test rows"
    parts = ("train",) * 4 + ("dev", "test")
    speakers = "speaker_id: 2 of 3 values are in training and also held out; --group-by speaker_id keeps them apart"
    good = jsonl(rows_of(plain))
    return [
        file("one.jsonl", rows_of(plain, 1), 1, said=(unmeasured,), held=(0, 0)),
        file("three.jsonl", rows_of(plain, 3), 3, said=(unmeasured,), held=(0, 0)),
        file("ten.jsonl", rows_of(plain, 10), 10, held=(2, 2)),
        file("same.jsonl", [plain(0)] * ROWS, said=(unmeasured, "29 duplicates kept"), held=(0, 0)),
        file("dup.jsonl", rows_of(plain, 10) * 3, said=("20 duplicates kept",), held=(6, 6)),
        file("split.jsonl", rows_of(lambda n: plain(n, split=parts[n % 6])),
             said=("divided by the rows' own 'split': 20 train, 5 valid, 5 test",), held=(5, 5)),
        file("splittest.jsonl", rows_of(lambda n: plain(n, split=("train", "test")[n % 5 == 0])),
             said=("own 'split': 24 train, 0 valid, 6 test",), held=(3, 6)),
        file("alltest.jsonl", rows_of(lambda n: plain(n, split="test")), None,
             said=("every row says by its 'split' that it is not for training",), fix="--split by-reference"),
        file("oddsplit.jsonl", rows_of(lambda n: plain(n, split="blue")),
             said=("'split' names no known part, trained on: 'blue' (30)",)),
        file("speakers.jsonl", rows_of(lambda n: plain(n, speaker_id=n % 3)), said=(speakers,)),
        folder("onlytrain", {"train.jsonl": good}),
        folder("csvdir", {"train.csv": table(",")}, said=("30 rows, CSV",)),
        folder("emptyvalid", {"train.jsonl": good, "valid.jsonl": b""},
               said=("valid.jsonl: empty, as if it were not there",)),
        folder("emptytest", {"train.jsonl": good, "test.jsonl": b"\n \n"},
               said=("test.jsonl: empty, as if it were not there",)),
        folder("tinyvalid", {"train.jsonl": good, "valid.jsonl": jsonl([plain(99)])}, 31, held=(1, 3)),
        folder("hfnames", {"train.jsonl": good, "validation.jsonl": jsonl([plain(99)]), "dev.jsonl": b"{}\n"}, 31,
               said=("dev.jsonl: not used",), held=(1, 3)),
        folder("saysother", {"train.jsonl": good, "test.jsonl": jsonl([plain(99, split="train")])}, 31,
               said=("warning: 1 rows of the test file say 'split' 'train'",), held=(3, 1)),
    ]  # fmt: skip


CASES = [*chat_cases(), *pair_cases(), *encoding_cases(), *division_cases()]
