"""How a model's chat template takes a chat, found out by rendering chats of made-up texts.

Templates differ in ways that no field declares: some refuse a system turn, some read contents only as lists of parts, some write today's
date, some open a thought. A template that gets a chat in another form than it expects often says nothing and drops texts. So what kp needs
is tried, and a form is used only if every text of the chat stands in what it renders.
"""

import itertools
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import TemplateError

from kp.errors import UserError, first_line
from kp.models.thinking import UnclosedThoughtError, closed_thought, thinking_switches
from kp.prompts import Messages, turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FROZEN = datetime(2024, 7, 26)
"""The date of every prompt whose template writes one, so that the same chat is the same prompt on every day."""

_OTHER_DAY = datetime(2031, 11, 2, 13, 14, 15)
_CLOCK = "strftime_now"  # the function by which templates ask transformers for the date
_DIRECTIVES = [f"%{flag}{letter}" for flag in ("-", "") for letter in "AaBbCcDdeFGgHIjMmPpRSTUuVWwXxYyZz"]
_PART = "'type': 'text'"  # in a prompt, where a template writes a list of parts as it is
_SYSTEM = turn("system", "Reply in brief to queries.")
_ASKED = turn("user", "Query: which one?")
_ANSWERED = turn("assistant", "Reply: the seventh")
_AGAIN = turn("user", "Query: and then?")


@dataclass(frozen=True)
class ChatForm:
    """How messages become text."""

    source: str | None  # the template; None: only the contents, one per line, without roles
    system_in_user: bool = False  # the system's text stands before the first user's, because the template takes no system turn
    parts: bool = False  # a content is a list of one part
    switches: tuple[tuple[str, bool], ...] = ()  # variables of the template, with the values that turn thinking off
    heading: str = ""  # what the template sets before answers and leaves to the model in a prompt, such as the name of a channel
    thought: str = ""  # the end of a thought, or an empty one, with which a prompt ends
    lead: str = ""  # blanks between a prompt, whose last blanks they may be, and its answer
    turn_end: str | None = None  # what follows an answer, up to an added token of the tokenizer; None: its end-of-sequence token
    dated: bool = False  # the template writes the date

    def notes(self) -> list[str]:
        """What a user should know of it: one line each."""
        if self.source is None:
            return ["no chat template: messages are written as plain lines, so answers do not compare with those of chat models"]
        told = {
            "its chat template takes no system turn: the text stands in the first user turn": self.system_in_user,
            "its chat template takes contents as lists of parts": self.parts,
            f"its chat template writes the date: every prompt says {FROZEN:%d %B %Y}": self.dated,
            f"thinking is off by {', '.join(f'{name}={str(value).lower()}' for name, value in self.switches)}": bool(self.switches),
            f"every prompt ends with {self.heading!r}, the template's own heading of answers": bool(self.heading),
            f"every prompt ends with {self.thought!r}: answers come without a thought": bool(self.thought),
        }
        return [note for note, holds in told.items() if holds]


def settled_form(tokenizer: "PreTrainedTokenizerBase", field: str) -> ChatForm:
    """The form in which this tokenizer's template shows a model everything that it is asked.

    Raises UserError for `field`, the config field of the model, if there is none.
    """
    if not tokenizer.chat_template:
        return ChatForm(None)
    source = _template(tokenizer, field)
    form = _with_all_texts(tokenizer, _frozen(source, FROZEN), thinking_switches(source), field)
    prompt, whole = apply(tokenizer, form, [_SYSTEM, _ASKED]), _whole(tokenizer, form, [_SYSTEM, _ASKED])
    # Some templates set the system's text before the last question only, and so leave it out where an answer follows.
    between = _heading(prompt, whole) or _heading(apply(tokenizer, form, [_ASKED]), _whole(tokenizer, form, [_ASKED]))
    added = [str(token.content) for token in tokenizer.added_tokens_decoder.values() if str(token.content).strip()]
    heading = between.rstrip(" ") if between.strip() else ""
    thought = _thought(tokenizer, form, source, added, prompt, heading, field)
    asked = prompt + heading + thought
    # A chat may end with its answer and without the end of its turn, which then follows only before the next question.
    asked_again = apply(tokenizer, form, [_SYSTEM, _ASKED, _ANSWERED, _AGAIN])
    turn_ends = (_up_to_token(text.partition(_ANSWERED["content"])[2], added) for text in (whole, asked_again))
    other_day = replace(form, source=_frozen(source, _OTHER_DAY))
    return replace(
        form,
        heading=heading,
        thought=thought,
        lead=asked[len(asked.rstrip(" ")) :] + ("" if thought else between[len(heading) :]),
        turn_end=next(filter(None, turn_ends), None),
        dated=apply(tokenizer, other_day, [_SYSTEM, _ASKED]) != prompt,
    )


def apply(tokenizer: "PreTrainedTokenizerBase", form: ChatForm, messages: Messages, prompt: bool = True) -> str:
    """The text of a chat by the template; as a `prompt` it ends where the template lets the next answer begin.

    Raises jinja2's TemplateError if the template refuses the messages.
    """
    assert form.source is not None, "a model without a template has plain lines"
    chat: list[dict[str, Any]] = [dict(message) for message in messages]
    if form.system_in_user and chat and chat[0]["role"] == "system":
        system, first, *others = chat
        chat = [first | {"content": f"{system['content']}\n\n{first['content']}"}, *others]
    if form.parts:
        chat = [message | {"content": [{"type": "text", "text": message["content"]}]} for message in chat]
    variables: dict[str, Any] = dict(form.switches)
    return str(tokenizer.apply_chat_template(chat, chat_template=form.source, tokenize=False, add_generation_prompt=prompt, **variables))


def first_missing(messages: Messages, text: str) -> str | None:
    """The first message whose content, but for blanks around it, does not stand in the text of its chat."""
    return next((message["content"] for message in messages if message["content"].strip() not in text), None)


def _template(tokenizer: "PreTrainedTokenizerBase", field: str) -> str:
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:  # several templates, and none of them is the default
        raise UserError(f"its tokenizer has no default chat template: {first_line(error)}", field=field) from error


def _frozen(source: str, day: datetime) -> str:
    """The template with a clock that stands still; the clock is a macro, because transformers hands no functions to templates."""
    if _CLOCK not in source:
        return source
    given = "".join(f" | replace({directive!r}, {day.strftime(directive)!r})" for directive in _DIRECTIVES)
    return f"{{% macro {_CLOCK}(format) %}}{{{{ format{given} }}}}{{% endmacro %}}\n{source}"  # blocks take the line end after them along


def _with_all_texts(tokenizer: "PreTrainedTokenizerBase", source: str, switches: dict[str, bool], field: str) -> ChatForm:
    """The first form, from the usual to the unusual, in which the template renders every text."""
    chat, faults = [_SYSTEM, _ASKED, _ANSWERED, _AGAIN], []
    for system_in_user, parts in itertools.product((False, True), repeat=2):
        form = ChatForm(source, system_in_user, parts, tuple(switches.items()))
        try:
            text = apply(tokenizer, form, chat)
            missing = first_missing(chat, text)
        except (TemplateError, TypeError, ValueError) as error:  # a template may also add a text to a list
            faults.append(f"refuses the prompt: {error}")
            continue
        if missing is None and not (parts and _PART in text):
            return form
        faults.append(f"leaves out messages, such as '{missing}'" if missing else "writes parts of contents as Python does")
    raise UserError(f"its chat template {faults[0]}; name a model whose template takes system, user and assistant turns", field=field)


def _whole(tokenizer: "PreTrainedTokenizerBase", form: ChatForm, asked: list[dict[str, str]]) -> str:
    """These messages and their answer, with which the chat ends; "" if the template refuses that or leaves the answer out."""
    try:
        text = apply(tokenizer, form, [*asked, _ANSWERED], prompt=False)
    except (TemplateError, TypeError, ValueError):
        return ""
    return text if _ANSWERED["content"] in text else ""


def _heading(prompt: str, whole: str) -> str:
    """What the template writes between a prompt and its answer."""
    return whole[len(prompt) :].partition(_ANSWERED["content"])[0] if whole.startswith(prompt) else ""


def _thought(
    tokenizer: "PreTrainedTokenizerBase", form: ChatForm, source: str, added: list[str], prompt: str, heading: str, field: str
) -> str:
    thinking = replace(form, switches=tuple((name, not value) for name, value in form.switches))
    switched = bool(form.switches) and apply(tokenizer, thinking, [_SYSTEM, _ASKED]) != prompt
    try:
        return closed_thought(source, added, prompt.rpartition(_ASKED["content"])[2] + heading, leaves_it_to_the_model=not switched)
    except UnclosedThoughtError as error:
        raise UserError(
            f"its chat template {error}: kp asks for answers without thoughts; name a model that can be told not to think", field=field
        ) from None


def _up_to_token(text: str, tokens: list[str]) -> str | None:
    """The beginning of a text up to the end of the first of these tokens; of several at one place, the longest."""
    found = [(text.find(token), -len(token)) for token in tokens if token and token in text]
    if not found:
        return None
    start, length = min(found)
    return text[: start - length]
