"""From chats to what a pass of the model reads: tokens, how many of them a group of chats shares, and the expected start of an answer.

None of it needs the model. So it can be done by another thread than the one that keeps the model busy, and once for all models that are
asked the same.
"""

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from kp.errors import UserError
from kp.generation.protocol import Prompt, ReadPrompt
from kp.models.chat import Chat
from kp.prompts import Messages

_LABEL = re.compile(r"\w{1,20}:")


class PromptReader:
    """Reads the prompts of one chat form; an answer has at most `max_new_tokens`, and with its prompt it fits in `positions` (None: any).

    It changes nothing, neither in itself nor in the tokenizer, so several threads may use it at once.
    """

    def __init__(self, chat: Chat, max_new_tokens: int, positions: int | None) -> None:
        self._chat, self._max_new_tokens, self._positions = chat, max_new_tokens, positions

    def read(self, prompts: Sequence[Prompt]) -> list[ReadPrompt]:
        """What the model reads of each; prompts that were read before are returned as they are.

        Raises UserError if a prompt and its answer exceed the model's positions.
        """
        found: dict[int, ReadPrompt] = {}
        by_beginning: dict[tuple[Any, ...], list[tuple[int, Messages]]] = {}
        for index, prompt in enumerate(prompts):
            if isinstance(prompt, ReadPrompt):
                found[index] = prompt
            else:
                by_beginning.setdefault(_beginning(prompt), []).append((index, prompt))
        for group in by_beginning.values():
            found |= zip((index for index, _ in group), self._read([messages for _, messages in group]), strict=True)
        return [found[index] for index in range(len(prompts))]

    def _read(self, group: list[Messages]) -> list[ReadPrompt]:
        """Prompts that differ only in what their last message says after its label."""
        token_ids = self._chat.prompt_ids(group)
        self._validate_length(max(map(len, token_ids)))
        shared, draft = self._shared_tokens(group[0], token_ids), self._draft(group[0], token_ids[0])
        beginning = tuple(token_ids[0][:shared])
        return [ReadPrompt(beginning, ids[shared:], draft) for ids in token_ids]

    def _shared_tokens(self, messages: Messages, token_ids: list[list[int]]) -> int:
        """The number of tokens that any question after these messages shares, found with two made-up questions."""
        label = _label(messages[-1]["content"])
        probes = [[*messages[:-1], {**messages[-1], "content": label + ending}] for ending in (" A", " 1")]
        # The last token of a row is never shared, because its logits give the answer's first token.
        return _common_start([*self._chat.prompt_ids(probes), *(ids[:-1] for ids in token_ids)])

    def _draft(self, messages: Messages, token_ids: list[int]) -> list[int]:
        """The tokens of the label ("Answer:") with which the shots' answers begin, if all of them have the same."""
        labels = {_label(message["content"]) for message in messages if message["role"] == "assistant"}
        label = labels.pop() if len(labels) == 1 else ""
        (answered,) = self._chat.prompt_ids([messages], label)
        if not label or answered[: len(token_ids)] != token_ids:
            return []
        return answered[len(token_ids) :][: self._max_new_tokens - 1]

    def _validate_length(self, longest: int) -> None:
        if self._positions is not None and longest + self._max_new_tokens > self._positions:
            raise UserError(
                f"a prompt of {longest} tokens and {self._max_new_tokens} new ones exceed the {self._positions} positions of the model",
                field="categorise.max_new_tokens",
            )


def _beginning(messages: Messages) -> tuple[Any, ...]:
    return tuple((message["role"], message["content"]) for message in messages[:-1]), messages[-1]["role"], _label(messages[-1]["content"])


def _label(content: str) -> str:
    """The word and colon with which a message begins ("Question:"), or an empty string."""
    found = _LABEL.match(content)
    return found.group() if found else ""


def _common_start(sequences: list[list[int]]) -> int:
    """The length of the longest common prefix."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*sequences, strict=False)))
