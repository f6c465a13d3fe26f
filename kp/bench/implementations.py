"""Ways to answer the same chats: kp's engine and the released script's way; elsewhere continuous batching, and vLLM in its own environment.

Each is timed from chats to texts, including everything in between: rendering, tokenising, computing shared prompts. What is needed once per
process (loading, compiling, measuring the free memory) happens in `warm_up` and is not timed.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import torch

from kp.bench.subject import Subject
from kp.bench.timing import timed
from kp.generation.decoding import Work
from kp.generation.hf import HFGenerator
from kp.prompts import Messages

RELEASED_BATCH = 128


class Peer(StrEnum):
    """The implementations that take part."""

    KP = "kp"
    RELEASED = "released"
    CONTINUOUS = "continuous"
    VLLM = "vllm"


@dataclass(frozen=True)
class Turn:
    """What an implementation did in one round; `work` is None if it cannot be observed from outside."""

    texts: list[str]
    seconds: float
    work: Work | None


class Implementation(Protocol):
    """A way to answer chats."""

    peer: Peer
    way: str

    def warm_up(self, chats: Sequence[Messages]) -> None:
        """Answer a few chats, untimed."""
        ...

    def answer(self, chats: Sequence[Messages]) -> Turn:
        """Answer these chats from scratch, without keys or values of an earlier round."""
        ...


class KpImplementation:
    """The engine of a study, with the rules of a study: an answer ends at its first line."""

    peer = Peer.KP
    way = "kp.generation.hf: shared prompts, a batch that stays full, an answer ends at its first line"

    def __init__(self, subject: Subject, max_new_tokens: int, batch_size: int) -> None:
        self._device = subject.device
        self._generator = HFGenerator(subject.model, subject.tokenizer, max_new_tokens, stop_at_newline=True, batch_size=batch_size)

    def warm_up(self, chats: Sequence[Messages]) -> None:
        self._generator.generate(chats)

    def answer(self, chats: Sequence[Messages]) -> Turn:
        self._generator.forget_prefixes()
        before = dataclasses.replace(self._generator.work)
        made, seconds = timed(self._device, lambda: self._generator.generate(chats))
        return Turn([answer.text for answer in made], seconds, difference(self._generator.work, before))


class ReleasedImplementation:
    """The released script's way: whole prompts, padded on the left, in batches of 128, and no answer ends at its first line.

    Its second beginning-of-sequence token (the pipeline adds one to a text that already has one from the chat template) is left out: it is
    a fault of the prompt, not a way to compute, and the answers could not be compared.
    """

    peer = Peer.RELEASED
    way = f"transformers generate: batches of {RELEASED_BATCH}, whole prompts padded on the left, every answer up to its last token"

    def __init__(self, subject: Subject, max_new_tokens: int) -> None:
        self._subject, self._max_new_tokens = subject, max_new_tokens

    def warm_up(self, chats: Sequence[Messages]) -> None:
        # A GPU needs a warm-up with the actual shape of a batch; a CPU does not, and a whole batch would take half a minute.
        self._batch(chats[: RELEASED_BATCH if self._subject.device.type == "cuda" else 8], Work())

    def answer(self, chats: Sequence[Messages]) -> Turn:
        work = Work()
        batches = [chats[start : start + RELEASED_BATCH] for start in range(0, len(chats), RELEASED_BATCH)]
        made, seconds = timed(self._subject.device, lambda: [self._batch(batch, work) for batch in batches])
        return Turn([text for batch in made for text in batch], seconds, work)

    def _batch(self, chats: Sequence[Messages], work: Work) -> list[str]:
        tokenizer, model = self._subject.tokenizer, self._subject.model
        texts = [self._subject.chat.prompt(chat) for chat in chats]
        inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False).to(model.device)
        made = model.generate(**inputs, max_new_tokens=self._max_new_tokens, do_sample=False)  # type: ignore[operator]
        rows, padded = inputs["input_ids"].shape
        steps = made.shape[1] - padded
        work.prompt_tokens += rows * padded
        work.answer_tokens += rows * (steps - 1)
        work.logits += rows * steps
        work.passes += steps
        return [str(text) for text in tokenizer.batch_decode(made[:, padded:], skip_special_tokens=True)]


def plain_answer(subject: Subject, chat: Messages, max_new_tokens: int) -> str:
    """The answer to one chat by plain `model.generate`, unbatched and with nothing shared, cut at its first line."""
    tokenizer = subject.tokenizer
    ids = torch.tensor(subject.chat.prompt_ids([chat]), device=subject.device)
    made = subject.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, do_sample=False)  # type: ignore[operator]
    return first_line(str(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)))


def first_line(text: str) -> str:
    """An answer as kp's engine would have ended it: the text before the first newline, which may be empty."""
    return text.partition("\n")[0]


def total(works: Sequence[Work]) -> Work:
    """The sum of all."""
    return Work(*(sum(numbers) for numbers in zip(*(dataclasses.astuple(work) for work in works), strict=True)))


def difference(after: Work, before: Work) -> Work:
    """The work done in between."""
    return Work(*(now - then for now, then in zip(dataclasses.astuple(after), dataclasses.astuple(before), strict=True)))
