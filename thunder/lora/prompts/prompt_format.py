"""The tokens of prompts and answers: one function for training, validation, margins, drafts, tests and the service.

A training row is the generation prompt, the answer, and the end of the turn. It is not rendered as a whole, since a
template may write one thing before an answer that it asks for, and another before an answer that it repeats (an empty
thought channel, for example).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thunder import digest
from thunder.errors import CorpusError, ModelError
from thunder.lora.prompts.prompt_words import PromptWords

DEFAULT_TEMPLATE_KWARGS = {"enable_thinking": False}
"""Training rows have no thoughts, so a template that can open a thought channel is told not to."""

_PLACEHOLDER = "Xq7Answer0zX"
_NEXT_TURN = "Xq7Question1zX"


@dataclass(frozen=True)
class Prompt:
    """A prompt that ends where the answer begins.

    ids: its tokens [T]. lead: the end of its text from the last control token on, after which an answer is tokenized.
    control_tokens: texts in the messages that name control tokens; they are tokenized as text.
    """

    ids: list[int]
    lead: str
    control_tokens: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingTokens:
    """ids [T] of a row; ids[offset:] are the answer with the end of the turn. control_tokens: see Prompt."""

    ids: list[int]
    offset: int
    control_tokens: tuple[str, ...] = ()


class PromptFormat:
    """A tokenizer with its chat template, and how both make prompts and answers.

    stops: ids that end an answer: those of the tokenizer, of the model's config, and the template's end of turn.
    """

    def __init__(
        self,
        tokenizer: Any,
        config_stops: Iterable[int] = (),
        template_kwargs: Mapping[str, Any] | None = None,
        words: PromptWords | None = None,
    ) -> None:
        """tokenizer: a transformers tokenizer with a chat template. config_stops: `eos_token_id` of the model's config.

        template_kwargs: switches of the template, as mlx_lm's --chat-template-config; default: no thinking. words: of
        the prompts that are made from a text alone; default: those of a correction.

        Raises ModelError where the template cannot render a question and its answer, or nothing ends an answer.
        """
        self.tokenizer = tokenizer
        self.words = words or PromptWords()
        source = self.chat_template = tokenizer.chat_template = _template_source(tokenizer)
        chosen = _default_switches(source) if template_kwargs is None else template_kwargs
        self.template_kwargs = {name: value for name, value in chosen.items() if name in source}
        self._controls = _control_tokens(tokenizer, source)
        self._control_pattern = re.compile("|".join(map(re.escape, self._controls))) if self._controls else None
        self.stops = {tokenizer.eos_token_id, *config_stops} - {None}
        self._trims = (False, False)
        self.folds_system = not self._renders_system()
        self.before_answer, self.end_of_turn = self._around_answer()
        self._shown_before_answer = tokenizer.decode(self._encode(self.before_answer), skip_special_tokens=True)
        self.stops.add(self._first_control(self._encode(self.end_of_turn)))
        self._encoded_leads: dict[str, list[int]] = {}

    def prompt(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None = None) -> Prompt:
        """The prompt that asks for the next turn of a conversation.

        Raises CorpusError where the template refuses the conversation, or its tools name control tokens.
        """
        conversation = [dict(message) for message in messages]
        if self.folds_system:
            conversation = fold_system(conversation)
        named: list[str] = []
        hidden: dict[str, str] = {}
        for number, message in enumerate(conversation):
            content = message.get("content")
            if isinstance(content, str) and (found := self.find_control_tokens(content)):
                named += found
                hidden[f"{_PLACEHOLDER}{number}z"] = self._trimmed(content)
                message["content"] = f"{_PLACEHOLDER}{number}z"
        if tools and (found := self.find_control_tokens(json.dumps(tools, ensure_ascii=False))):
            raise CorpusError(f"its tools name control tokens of the model: {', '.join(found)}", fix="rename them")
        text = self._render(conversation, tools)
        ids = self._encode_around(text, hidden)
        return Prompt(ids, self._lead(text), tuple(named))

    def answer(self, prompt: Prompt, text: str) -> list[int]:
        """Tokens of a text as the answer to a prompt, up to the token that ends it."""
        ids = self._answer_with_tail(prompt.lead, text)
        return ids[: next(place for place, token in enumerate(ids) if token in self.stops) + 1]

    def training_tokens(
        self, messages: Sequence[Mapping[str, Any]], answer: str, tools: Sequence[Any] | None = None
    ) -> TrainingTokens:
        """Tokens of a training row: the prompt, the answer, and what the template writes after an answer.

        Raises CorpusError where the template refuses the conversation.
        """
        prompt = self.prompt(messages, tools)
        ids = prompt.ids + self._answer_with_tail(prompt.lead, answer)
        return TrainingTokens(ids, len(prompt.ids), prompt.control_tokens + self.find_control_tokens(answer))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer's tokens, without control tokens."""
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text.removeprefix(self._shown_before_answer) if self._shown_before_answer else text

    def find_control_tokens(self, text: str) -> tuple[str, ...]:
        """The control tokens that a text names."""
        return tuple(self._control_pattern.findall(text)) if self._control_pattern else ()

    def describe(self) -> dict[str, Any]:
        """The record of an adapter: the template's digest and switches, what ends an answer, and the instruction."""
        return {
            "chat_template_sha256": digest.sha256_bytes(self.chat_template.encode()),
            "chat_template_config": self.template_kwargs,
            "end_of_turn": self.end_of_turn,
            "stop_ids": sorted(self.stops),
            "instruction": self.words.instruction,
            "system_prompt": self.words.system,
        }

    def _render(self, conversation: list[dict[str, Any]], tools: Sequence[Any] | None, ask: bool = True) -> str:
        from jinja2 import TemplateError

        try:
            return self.tokenizer.apply_chat_template(
                conversation, tools=tools, tokenize=False, add_generation_prompt=ask, **self.template_kwargs
            )
        except (TemplateError, TypeError, KeyError, ValueError) as error:
            roles = ", ".join(str(message.get("role")) for message in conversation)
            raise CorpusError(
                f"the model's chat template refuses a conversation of the turns {roles}: {error}",
                fix="turns that alternate between user and assistant, or a base whose template takes these",
            ) from None

    def _renders_system(self) -> bool:
        """Whether the template takes a system message and writes it."""
        conversation = [{"role": "system", "content": _NEXT_TURN}, {"role": "user", "content": "x"}]
        try:
            return _NEXT_TURN in self._render(conversation, None)
        except CorpusError:
            return False

    def _around_answer(self) -> tuple[str, str]:
        """The texts that the template writes between the generation prompt and an answer, and after the answer.

        A template may write nothing after it, since the next turn's beginning ends the answer (GLM): then that
        beginning.
        """
        question = {"role": "user", "content": "x"}
        answer = {"role": "assistant", "content": _PLACEHOLDER}
        padded = {"role": "assistant", "content": f" {_PLACEHOLDER} "}
        try:
            text = self._render([question, answer], None, ask=False)
            asked = self._render([question], None)
            spaced = self._render([question, padded], None, ask=False)
        except CorpusError as error:
            raise ModelError(error.message, fix="another base, or a chat_template.jinja that renders chats") from None
        before, found, tail = text.partition(_PLACEHOLDER)
        if not found:
            raise ModelError("the model's chat template drops the answer", fix="another chat_template.jinja")
        self._trims = (not spaced.startswith(f"{before} {_PLACEHOLDER}"), not spaced.endswith(f"{_PLACEHOLDER} {tail}"))
        between = before.removeprefix(asked) if before.startswith(asked) else ""
        if self._first_control(self._encode(tail)) is not None:
            return between, tail
        following = self._render([question, answer, {"role": "user", "content": _NEXT_TURN}], None, ask=False)
        next_turn = following.partition(_PLACEHOLDER)[2].partition(_NEXT_TURN)[0]
        start = self._control_pattern.match(next_turn) if self._control_pattern else None
        if start and self.tokenizer.convert_tokens_to_ids(start[0]) in self.stops:
            return between, tail + start[0]
        if self.tokenizer.eos_token is None:
            raise ModelError("nothing ends an answer of this model", fix="name an eos_token in tokenizer_config.json")
        return between, tail + self.tokenizer.eos_token

    @property
    def trims(self) -> bool:
        """Whether the template removes space around an answer."""
        return all(self._trims)

    def _trimmed(self, text: str) -> str:
        """A text without the outer space that the template removes."""
        left, right = self._trims
        text = text.lstrip() if left else text
        return text.rstrip() if right else text

    def _first_control(self, ids: Sequence[int]) -> int | None:
        """The first token of the end of a turn that can stop an answer."""
        special = {self.tokenizer.convert_tokens_to_ids(each) for each in self._controls} | self.stops
        return next((token for token in ids if token in special), None)

    def _lead(self, text: str) -> str:
        """The end of a rendered prompt from its last control token on; all of it where it has none."""
        places = [match.start() for match in self._control_pattern.finditer(text)] if self._control_pattern else []
        return text[places[-1] :] if places else text

    def _answer_with_tail(self, lead: str, text: str) -> list[int]:
        """Tokens of an answer and of what the template writes after it, as they follow the prompt's tokens."""
        text = self._trimmed(text)
        if lead not in self._encoded_leads:
            self._encoded_leads[lead] = self._encode(lead)
        before = self._encoded_leads[lead]
        if not self.find_control_tokens(text):
            whole = self._encode(lead + self.before_answer + text + self.end_of_turn)
            if whole[: len(before)] == before:
                return whole[len(before) :]
        return [*self._encode(self.before_answer), *self._encode_as_text(text), *self._encode(self.end_of_turn)]

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _encode_around(self, text: str, hidden: Mapping[str, str]) -> list[int]:
        """Tokens of a rendered text, where each placeholder stands for a text that is no markup."""
        if not hidden:
            return self._encode(text)
        ids: list[int] = []
        for piece in re.split(f"({'|'.join(map(re.escape, hidden))})", text):
            ids += self._encode_as_text(hidden[piece]) if piece in hidden else self._encode(piece)
        return ids

    def _encode_as_text(self, text: str) -> list[int]:
        """Tokens of a text in which the name of a control token is only text: it is tokenized in two parts."""
        parts, start = [], 0
        for match in self._control_pattern.finditer(text) if self._control_pattern else ():
            parts.append(text[start : match.start() + 1])
            start = match.start() + 1
        parts.append(text[start:])
        return [token for part in parts if part for token in self._encode_continued(part)]

    def _encode_continued(self, text: str) -> list[int]:
        """Tokens of a text inside another, without the space that some tokenizers put before the first word."""
        anchor = "\n"
        before = self._encode(anchor)
        whole = self._encode(anchor + text)
        return whole[len(before) :] if whole[: len(before)] == before else self._encode(text)


def fold_system(conversation: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put a leading system message before the first user turn, as Gemma's own templates do."""
    if len(conversation) < 2 or conversation[0].get("role") != "system":
        return conversation
    first = conversation[1]
    return [{**first, "content": f"{conversation[0]['content']}\n\n{first['content']}"}, *conversation[2:]]


def _template_source(tokenizer: Any) -> str:
    """The text of a tokenizer's chat template; of several named ones, the default, as transformers takes it."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        if "default" not in template:
            raise ModelError(
                f"its chat templates are named {', '.join(template)}, and none is the default",
                fix="put the one to use into chat_template.jinja",
            )
        template = template["default"]
    return template


def _default_switches(template: str) -> dict[str, Any]:
    """No thinking; and today's date where a template would write the date of each call, so that prompts stay equal."""
    if "strftime_now" in template and "date_string" in template:
        return DEFAULT_TEMPLATE_KWARGS | {"date_string": time.strftime("%d %b %Y")}
    return DEFAULT_TEMPLATE_KWARGS


def _control_tokens(tokenizer: Any, template: str) -> list[str]:
    """Texts that the tokenizer reads as one token of markup: its special tokens, and added ones of the template.

    The longest comes first, so that a pattern of them finds the whole of each.
    """
    added = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
    added |= dict.fromkeys(tokenizer.all_special_tokens, True)
    chosen = {
        text
        for text, special in added.items()
        if len(text.strip()) > 1 and (special or (text in template and "<" in text))
    }
    return sorted(chosen, key=lambda text: (-len(text), text))
