"""From chat messages to text and tokens: the one place that decides what a model actually reads.

Training and generation must show a model the same tokens, so both use this module. A chat template writes its own special tokens, so the
tokenizer adds none to a templated text (adding them twice is a known bug of generation pipelines).
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from jinja2.exceptions import TemplateError

from kp.errors import UserError
from kp.models.chat_form import apply, first_missing, settled_form
from kp.models.names import NAME_FIELD
from kp.prompts import Messages, Shot, training_messages
from kp.prompts import messages as question_messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = [*question_messages([Shot("Where is the Louvre?", "Paris")], "Who wrote Emma?"), training_messages("", "Jane Austen")[-1]]


class Chat:
    """The chats of one tokenizer's model, in the form that its template takes (`form`).

    Raises UserError for `field`, the config field of the model, if the template takes no form of them.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", field: str = NAME_FIELD) -> None:
        self.tokenizer = tokenizer
        self.form = settled_form(tokenizer, field)
        self._field = field

    def prompt(self, messages: Messages) -> str:
        """The text after which the model writes the next answer.

        Raises UserError if the template refuses the messages or leaves one out.
        """
        if self.form.source is None:
            return "".join(f"{message['content']}\n" for message in messages)
        try:
            text = apply(self.tokenizer, self.form, messages)
        except TemplateError as error:
            raise UserError(f"its chat template refuses a prompt: {error}", field=self._field) from error
        if (missing := first_missing(messages, text)) is not None:
            raise UserError(f"its chat template changes or leaves out a message: {missing[:80]!r}", field=self._field)
        # Blanks at the end would be a token of their own, where training has the answer's first word with them.
        return (text + self.form.heading + self.form.thought).rstrip(" ")

    def prompt_ids(self, chats: Sequence[Messages], answer: str = "") -> list[list[int]]:
        """Token ids of each chat's prompt, followed by the beginning of an answer if one is given."""
        begun = self.form.lead + answer if answer else ""
        return self._ids([self.prompt(messages) + begun for messages in chats])

    def row_ids(self, messages: Messages) -> tuple[list[int], int]:
        """Token ids of a chat up to and including the token that ends its last turn, the answer; and how many belong to the prompt.

        They are the ids of the whole text: a tokenizer may write the first word of a text in another way than one within it.
        """
        prompt = self.prompt(messages[:-1])
        text = prompt + self.form.lead + messages[-1]["content"] + (self.form.turn_end or "")
        asked, ids = self._ids([prompt, text])
        if self.form.turn_end is None:
            ids.append(self.end_token)
        same = (place for place, (one, other) in enumerate(zip(asked, ids, strict=False)) if one != other)
        return ids, next(same, min(len(asked), len(ids)))

    @cached_property
    def end_token(self) -> int:
        """The token that ends an answer: of the template's turns, otherwise of a sequence."""
        ended = self._ids([self.form.turn_end])[0][-1] if self.form.turn_end else self.tokenizer.eos_token_id
        if ended is None:
            raise UserError("neither its chat template nor its tokenizer has a token that ends an answer", field=self._field)
        return int(ended)

    @cached_property
    def digest(self) -> str:
        """Of a chat as the model reads it: changes with the template, with how it is used, and with the tokens around texts."""
        (prompt,), (row, _) = self._ids([self.prompt(_PROBE[:-1])]), self.row_ids(_PROBE)
        read = [self.prompt(_PROBE[:-1]), self.form.lead, self.form.turn_end, prompt, row]
        return hashlib.sha256(json.dumps(read).encode()).hexdigest()[:16]

    @cached_property
    def probe_ids(self) -> list[int]:
        """Token ids of a row with a worked example, in which every part of a chat occurs."""
        return self.row_ids(_PROBE)[0]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Only plain lines get the tokens that the tokenizer sets before a text; those that it sets behind one would end an answer."""
        if not texts:
            return []
        encoded = self.tokenizer(list(texts), add_special_tokens=False, padding=False, return_attention_mask=False)
        before = self._before if self.form.source is None else []
        return [[*before, *ids] for ids in encoded["input_ids"]]

    @cached_property
    def _before(self) -> list[int]:
        """The tokens that the tokenizer sets before any text."""
        bare, whole = (list(self.tokenizer("a b", add_special_tokens=special)["input_ids"]) for special in (False, True))
        starts = (start for start in range(len(whole)) if whole[start : start + len(bare)] == bare)
        return whole[: next(starts, 0)]
