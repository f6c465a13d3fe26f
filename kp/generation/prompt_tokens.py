"""Whether two environments read the same prompts as the same tokens.

vLLM's actors have another transformers and tokenizers than the rest of a study. A template that is rendered otherwise, or a tokenizer that
splits otherwise, gives answers to other prompts, and nothing else would show it. So the study tokenises its first prompts itself, and every
actor of the other environment must come to the same tokens before it answers anything.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from kp.errors import UserError
from kp.models.chat import Chat
from kp.prompts import Messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FIELD = "resources.vllm_python"
_SHOWN = 60  # characters of the end of a prompt, where its question is


@dataclass(frozen=True)
class PromptTokens:
    """Chats, as JSON, with their tokens in the environment that `versions` names."""

    chats: str
    ids: tuple[tuple[int, ...], ...]
    versions: str

    def validate(self, tokenizer: "PreTrainedTokenizerBase", field: str = FIELD) -> None:
        """Raise UserError for `field`, the option of the interpreter, if this environment reads one of the chats as other tokens."""
        chats: list[Messages] = json.loads(self.chats)
        for chat, expected, found in zip(chats, self.ids, Chat(tokenizer).prompt_ids(chats), strict=True):
            if tuple(found) != expected:
                raise UserError(
                    f"its environment ({tokenizer_versions()}) reads a prompt as other tokens than the study's ({self.versions}): "
                    f"{_difference(tokenizer, expected, found)}, in the prompt that ends with '{chat[-1]['content'][-_SHOWN:]}'; "
                    "install versions in it that read both the same",
                    field=field,
                )


def prompt_tokens(tokenizer: "PreTrainedTokenizerBase", chats: Sequence[Messages]) -> PromptTokens:
    """The chats with their tokens in this environment."""
    ids = Chat(tokenizer).prompt_ids(chats)
    return PromptTokens(json.dumps(list(chats)), tuple(map(tuple, ids)), tokenizer_versions())


def tokenizer_versions() -> str:
    """The packages of this environment that decide on tokens."""
    return ", ".join(f"{name} {version(name)}" for name in ("transformers", "tokenizers"))


def _difference(tokenizer: "PreTrainedTokenizerBase", expected: Sequence[int], found: Sequence[int]) -> str:
    """The first token that differs."""
    place = next((place for place, (one, other) in enumerate(zip(expected, found, strict=False)) if one != other), None)
    if place is None:
        return f"{len(found)} tokens in place of {len(expected)}"
    names = [tokenizer.convert_ids_to_tokens(ids[place]) for ids in (found, expected)]
    return f"token {place + 1} is {found[place]} ({names[0]!r}) in place of {expected[place]} ({names[1]!r})"
