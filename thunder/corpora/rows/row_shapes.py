"""Turn rows of every format into chat messages: chat rows, ShareGPT, prompts with answers, recognized text pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from thunder.corpora.rows.jsonl_lines import LineFault, check_characters, kind_of_value
from thunder.text.chat import correction_messages
from thunder.text.normalize import normalize_text

PAIRS = (
    ("asr_text", "reference_text"),
    ("before", "after"),
    ("hyp", "ref"),
    ("hypothesis", "reference"),
    ("prediction", "reference"),
    ("asr_candidate", "reference"),
    ("hypotheses", "reference"),
    ("n_best", "reference"),
    ("pred_text", "text"),
    ("prompt", "completion"),
    ("input", "output"),
)
# a prompt already has its instruction
VERBATIM = ("prompt", "completion")
# (the task, what it is about, the answer): Alpaca's names and Dolly's
TASKS = (("instruction", "input", "output"), ("instruction", "context", "response"))
# allowed references: with text; also empty, as for silence; or also missing, where no one wrote one
References = Literal["written", "empty", "missing"]
MAP_FIELDS = "--fields hyp=FIELD,ref=FIELD says which fields hold the recognized and the correct text"


@dataclass(frozen=True)
class ShapedRow:
    """A row as messages. shape: how it was read, None for chat messages; all rows of a file have the same.

    used: fields that the messages were made of. unused: values inside them that were not used, by name.
    asr_text: the recognized text, where the prompt is not the correction instruction and the text.
    is_checked: whether the messages are made of texts that were checked, and need no further look.
    """

    messages: Any
    shape: str = "messages"
    used: frozenset[str] = frozenset()
    unused: tuple[str, ...] = field(default=())
    asr_text: str | None = None
    is_checked: bool = False


def shape_row(fields: dict[str, Any], references: References, preferred: Iterable[str] = ()) -> ShapedRow:
    """Return the messages of a row; a pair with one of the preferred names wins over every other format.

    A recognizer may output nothing, so the text to be corrected can be empty; an answer or a whole prompt cannot.
    Raises LineFault where the format is not known or its texts cannot be used.
    """
    chosen = _find_pair(fields, names) if (names := set(preferred)) else None
    if chosen is None and "messages" in fields:
        return ShapedRow(fields["messages"], used=frozenset({"messages"}))
    if chosen is None and "conversations" in fields:
        return _conversation(fields)
    if chosen is None:
        _refuse_known_formats(fields)
        if task := next((task for task in TASKS if task[0] in fields and task[2] in fields), None):
            return _task(fields, task, references)
        chosen = _find_pair(fields, None)
    if references == "missing" and (chosen is None or fields[chosen[1]] is None):
        return _half(fields)
    if chosen is None:
        known = ", ".join(f"{question} + {answer}" for question, answer in PAIRS)
        found = ", ".join(map(repr, fields)) or "nothing"
        raise LineFault(f"no 'messages'; found {found}; expected messages, or {known}", fix=MAP_FIELDS)
    if chosen == VERBATIM and any(isinstance(fields[key], list) for key in chosen):
        return _message_lists(fields)
    return _pair(fields, chosen, references)


def _find_pair(fields: dict[str, Any], preferred: set[str] | None) -> tuple[str, str] | None:
    """The first pair that a row has. preferred: names of which the pair must have one; None: any pair."""
    for question, answer in PAIRS:
        if question in fields and answer in fields and (preferred is None or preferred & {question, answer}):
            return question, answer
    return None


def _pair(fields: dict[str, Any], pair: tuple[str, str], references: References) -> ShapedRow:
    question, alternatives = first_hypothesis(pair[0], fields[pair[0]])
    answer = fields[pair[1]]
    texts = {pair[0]: question, pair[1]: answer}
    for key, text in texts.items():
        _check_text(key, text, may_be_empty=references != "written" if key == pair[1] else pair != VERBATIM)
    shape = f"{pair[0]} -> user, {pair[1]} -> assistant"
    unused = ("other hypotheses",) if alternatives else ()
    used = set(pair)
    if pair == VERBATIM or "instruction" not in fields:
        messages = correction_messages(question, answer) if pair != VERBATIM else _turns(question, answer)
        asr_text = None
    else:
        used.add("instruction")
        shape = f"instruction + {shape}"
        _check_text("instruction", fields["instruction"])
        messages, asr_text = _turns(f"{fields['instruction']}\n{normalize_text(question)}", answer), question
    if pair == VERBATIM or pair == ("input", "output"):
        messages = _with_system(fields, messages, used)
    return ShapedRow(messages, shape, frozenset(used), unused, asr_text, is_checked=True)


def _task(fields: dict[str, Any], task: tuple[str, str, str], references: References) -> ShapedRow:
    """A task with the text that it is about, in Alpaca's format: the instruction is the prompt, as it is."""
    instruction, about, answer = task
    text, alternatives = first_hypothesis(about, fields.get(about) or "")
    _check_text(instruction, fields[instruction])
    _check_text(about, text, may_be_empty=True)
    _check_text(answer, fields[answer], may_be_empty=references != "written")
    question = f"{fields[instruction]}\n{normalize_text(text)}" if text.strip() else fields[instruction]
    used = set(task)
    messages = _turns(question, fields[answer])
    if isinstance(history := fields.get("history"), list):
        used.add("history")
        messages = [message for turn in history for message in _turns(*_history_turn(turn))] + messages
    messages = _with_system(fields, messages, used)
    shape = f"{instruction} + {about} -> user, {answer} -> assistant"
    unused = ("other hypotheses",) if alternatives else ()
    return ShapedRow(messages, shape, frozenset(used), unused, text if text.strip() else None)


def _history_turn(turn: Any) -> tuple[str, str]:
    if not (isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn)):
        raise LineFault("'history' is not a list of [question, answer]")
    return turn[0], turn[1]


def _turns(question: str, answer: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": normalize_text(answer)}]


def _with_system(fields: dict[str, Any], messages: list[Any], used: set[str]) -> list[Any]:
    """Put a row's `system` text before its messages, where they have no system turn."""
    system = fields.get("system")
    roles = [message.get("role", message.get("from")) for message in messages if isinstance(message, dict)]
    if not isinstance(system, str) or not system.strip() or "system" in roles:
        return messages
    check_characters("'system'", system)
    used.add("system")
    return [{"role": "system", "content": system}, *messages]


def _conversation(fields: dict[str, Any]) -> ShapedRow:
    """ShareGPT: `conversations` of {from, value}, or of {role, content}."""
    turns, used = fields["conversations"], {"conversations"}
    if not isinstance(turns, list):
        raise LineFault(f"'conversations' is {kind_of_value(turns)}, not a list")
    names = {"from": "role", "value": "content"}
    messages: list[Any] = [
        {names.get(key, key): value for key, value in turn.items()} if isinstance(turn, dict) else turn
        for turn in turns
    ]
    return ShapedRow(_with_system(fields, messages, used), "conversations -> messages", frozenset(used))


def _message_lists(fields: dict[str, Any]) -> ShapedRow:
    """TRL's conversational format: a prompt and a completion that are lists of messages."""
    parts = []
    for key, role in (("prompt", "user"), ("completion", "assistant")):
        value = fields[key]
        if isinstance(value, str):
            value = [{"role": role, "content": value}]
        if not isinstance(value, list):
            raise LineFault(f"'{key}' is {kind_of_value(value)}, not a text or a list of messages")
        parts += value
    used = set(VERBATIM)
    return ShapedRow(_with_system(fields, parts, used), "prompt + completion -> messages", frozenset(used))


def _half(fields: dict[str, Any]) -> ShapedRow:
    """A row that has a recognized text alone."""
    pair = next((pair for pair in PAIRS if pair != VERBATIM and pair[0] in fields), None)
    if pair is None:
        known = ", ".join(dict.fromkeys(pair[0] for pair in PAIRS if pair != VERBATIM))
        found = ", ".join(map(repr, fields)) or "nothing"
        raise LineFault(f"no recognized text; found {found}; expected one of {known}", fix=MAP_FIELDS)
    fields.pop(pair[1], None)
    question, alternatives = first_hypothesis(pair[0], fields[pair[0]])
    _check_text(pair[0], question, may_be_empty=True)
    return ShapedRow(
        correction_messages(question, ""),
        f"{pair[0]} -> user, {pair[1]} -> assistant",
        frozenset(pair),
        ("other hypotheses",) if alternatives else (),
    )


def first_hypothesis(key: str, value: Any) -> tuple[Any, int]:
    """Return a recognized text, the first of an n-best list, and how many others there are.

    value: a text; or a list of texts, or of objects with a `text`. Raises LineFault for another list.
    """
    if not isinstance(value, list):
        return value, 0
    first = value[0] if value else None
    text = first.get("text") if isinstance(first, dict) else first
    if not isinstance(text, str):
        raise LineFault(f"'{key}' is a list, but not of texts")
    return text, len(value) - 1


def _check_text(key: str, text: Any, may_be_empty: bool = False) -> None:
    if not isinstance(text, str):
        raise LineFault(f"'{key}' is {kind_of_value(text)}, not a text")
    if not text.strip() and not may_be_empty:
        raise LineFault(f"'{key}' is empty")
    check_characters(f"'{key}'", text)


def _refuse_known_formats(fields: dict[str, Any]) -> None:
    """Name the formats that this trainer does not learn from."""
    if "chosen" in fields and "rejected" in fields:
        raise LineFault(
            "a preference row (chosen + rejected); training here is supervised, on one answer",
            fix="--fields prompt=prompt,completion=chosen trains on the chosen answers alone",
        )
    if isinstance(fields.get("text"), str) and not any(question in fields for question, _ in PAIRS):
        raise LineFault(
            "plain text ('text' without a question); training here learns answers",
            fix="thunder pretrain learns from plain text; --fields hyp=FIELD,ref=text where 'text' is a reference",
        )
