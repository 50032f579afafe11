"""Check the messages of a chat row, and bring their forms to one: roles, contents in parts, weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from thunder.corpora.rows.jsonl_lines import LineFault, check_characters, kind_of_value
from thunder.corpora.rows.row_shapes import References

ROLES = ("system", "user", "assistant", "tool")
ROLE_NAMES = {
    "human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
    "developer": "system", "function": "tool", "observation": "tool", "ipython": "tool",
}  # fmt: skip
PLAIN_KEYS = ("role", "content")


def read_messages(messages: Any, references: References, notes: Counter[str]) -> tuple[dict[str, Any], ...]:
    """Return a conversation to learn from: known roles, non-empty texts, the answer last.

    notes: what was renamed, left out, or is not trained on; each is counted once for the row.
    Raises LineFault.
    """
    if not isinstance(messages, list):
        raise LineFault(f"'messages' is {kind_of_value(messages)}, not a list")
    found: dict[str, None] = {}
    turns = [_turn(message, position, found) for position, message in enumerate(messages, start=1)]
    turns = _until_last_weighted(turns, found)
    _check_order(turns)
    for position, message in enumerate(turns, start=1):
        is_answer = position == len(turns)
        _check_content(message, position, references != "written" if is_answer else "tool_calls" in message)
    _note_unused(turns, found)
    notes.update(list(found))
    return tuple(turns)


def _turn(message: Any, position: int, found: dict[str, None]) -> dict[str, Any]:
    """One message with its role's own name and its content as a text."""
    if not isinstance(message, dict):
        raise LineFault(f"message {position} is {kind_of_value(message)}, not an object with 'role' and 'content'")
    message = {key: value for key, value in message.items() if key in PLAIN_KEYS or value not in (None, "", [], {})}
    role = message.get("role")
    if not isinstance(role, str):
        raise LineFault(_wrong(message, position, "role"))
    if role in ROLE_NAMES:
        found[f"role '{role}' read as '{ROLE_NAMES[role]}'"] = None
        message["role"] = ROLE_NAMES[role]
    elif role not in ROLES:
        raise LineFault(f"message {position}: unknown role {role!r}; known are {', '.join((*ROLES, *ROLE_NAMES))}")
    if isinstance(message.get("content"), list):
        message["content"] = _joined_parts(message["content"], position)
    elif message.get("content") is None and message.get("tool_calls"):
        message["content"] = ""
    if not isinstance(message.get("content"), str):
        raise LineFault(_wrong(message, position, "content"))
    return message


def _wrong(message: Mapping[str, Any], position: int, key: str) -> str:
    found = f"is {kind_of_value(message[key])}, not a text" if key in message else "is missing"
    return f"message {position}: '{key}' {found}"


def _joined_parts(parts: list[Any], position: int) -> str:
    """The text of a content that is a list of parts."""
    texts = []
    for number, part in enumerate(parts, start=1):
        text = part.get("text") if isinstance(part, dict) else part
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        if kind != "text" or not isinstance(text, str):
            raise LineFault(f"message {position}: part {number} of 'content' is {kind!r}; only text is learned from")
        texts.append(text)
    return "".join(texts)


def _until_last_weighted(turns: list[dict[str, Any]], found: dict[str, None]) -> list[dict[str, Any]]:
    """The messages up to the last answer whose `weight` is not 0, without the weights."""
    weights = [message.pop("weight", None) for message in turns]
    if not any(weight is not None for weight in weights):
        return turns
    for position, weight in enumerate(weights, start=1):
        if weight not in (None, 0, 1) or isinstance(weight, bool):
            raise LineFault(f"message {position}: 'weight' is {weight!r}; known are 0 and 1")
    last = max((at for at, turn in enumerate(turns) if turn["role"] == "assistant" and weights[at] != 0), default=None)
    if last is None:
        raise LineFault("every assistant turn has weight 0: there is nothing to learn", fix="leave these rows out")
    found["'weight': only the last turn of weight 1 is trained on"] = None
    if last + 1 < len(turns):
        found["turns after the last of weight 1 left out"] = None
    return turns[: last + 1]


def _check_order(turns: list[dict[str, Any]]) -> None:
    roles = [message["role"] for message in turns]
    if "assistant" not in roles:
        raise LineFault("has no assistant turn to learn from")
    if roles[-1] != "assistant":
        raise LineFault(
            f"the last turn is the {roles[-1]}'s, not the assistant's",
            fix="leave out what comes after the last assistant turn: the row ends with the answer to learn",
        )
    if "user" not in roles:
        raise LineFault("has no user turn", fix="put the question before the answer as a user turn")


def _check_content(message: Mapping[str, Any], position: int, may_be_empty: bool) -> None:
    role, content = message["role"], message["content"]
    if not content.strip() and not may_be_empty and role not in ("system", "tool"):
        raise LineFault(f"message {position}: the {role} content is empty")
    check_characters(f"message {position}:", content)


def _note_unused(turns: list[dict[str, Any]], found: dict[str, None]) -> None:
    """Note what training does not learn from: earlier answers, and what messages have besides their texts."""
    answer = turns[-1]
    for key in answer.keys() - set(PLAIN_KEYS):
        found[f"'{key}' of the answer, not trained on"] = None
    if any(message["role"] == "assistant" for message in turns[:-1]):
        found["earlier assistant turns, part of the prompt"] = None
    for key in {key for message in turns[:-1] for key in message} - set(PLAIN_KEYS):
        found[f"'{key}' in the prompt, as far as the chat template uses it"] = None
