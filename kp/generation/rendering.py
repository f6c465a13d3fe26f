"""From chat messages to text and tokens: the one place that decides what a model actually reads.

Training and generation must show a model the same tokens, so both use this module. A chat template writes its own special tokens, so the
tokenizer adds none to a templated text (adding them twice is a known bug of generation pipelines).
"""

import logging
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from jinja2.exceptions import TemplateError

from kp.errors import UserError
from kp.generation.protocol import Messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_log = logging.getLogger(__name__)


class ChatFormat(StrEnum):
    """How messages become text."""

    TEMPLATE = "template"  # the tokenizer's own chat template
    PLAIN = "plain"  # only the contents, one per line, without roles: for models that were not trained on a chat format


def chat_format(tokenizer: "PreTrainedTokenizerBase") -> ChatFormat:
    """The tokenizer's template if it has one; otherwise `PLAIN`, with a warning, because such answers do not compare with others."""
    if tokenizer.chat_template:
        return ChatFormat.TEMPLATE
    _log.warning("%s has no chat template: messages are written as plain lines", tokenizer.name_or_path)
    return ChatFormat.PLAIN


def render(tokenizer: "PreTrainedTokenizerBase", messages: Messages, form: ChatFormat) -> str:
    """The text after which the model writes the next answer.

    Raises UserError if the model's template rejects the messages (some allow no system message).
    """
    if form is ChatFormat.PLAIN:
        return "".join(f"{message['content']}\n" for message in messages)
    try:
        return str(tokenizer.apply_chat_template([dict(message) for message in messages], tokenize=False, add_generation_prompt=True))
    except TemplateError as error:
        raise UserError(f"the chat template of {tokenizer.name_or_path} refuses the prompt: {error}", field="model.name") from error


def tokenise(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], form: ChatFormat) -> list[list[int]]:
    """Token ids of rendered texts; only plain text gets the special tokens that the tokenizer adds."""
    if not texts:
        return []
    encoded = tokenizer(list(texts), add_special_tokens=form is ChatFormat.PLAIN, padding=False, return_attention_mask=False)
    return [list(ids) for ids in encoded["input_ids"]]
