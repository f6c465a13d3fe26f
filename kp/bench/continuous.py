"""Continuous batching of transformers: requests join and leave a running batch, keys and values lie in pages, and pages of equal tokens are
shared.

What it needs once (memory for pages, CUDA graphs) is made and warmed up before the clock starts, and anew for every round, so that no round
finds the pages of the one before. Nothing of it lasts beyond a turn: its pages take most of the free memory of a GPU.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from kp.bench.implementations import Peer, Turn, first_line
from kp.bench.subject import Subject
from kp.bench.timing import timed
from kp.errors import UserError
from kp.generation.memory import release_memory
from kp.prompts import Messages

PAGE_SIZE = 16
"""Tokens of a page: only whole pages are shared, and a page of the default 256 tokens is most of a few-shot prompt."""

_CPU_BLOCKS = 2048  # of PAGE_SIZE tokens: without a GPU it has no free memory to measure
_WAIT_SECONDS = 1.0


class ContinuousImplementation:
    """`generate_batch` of transformers, taken apart so that warming up is not timed; whole answers are made and cut at their first line."""

    peer = Peer.CONTINUOUS
    way = f"transformers continuous batching: pages of {PAGE_SIZE} tokens, shared and warmed up; every answer up to its last token"

    def __init__(self, subject: Subject, max_new_tokens: int, batch_size: int) -> None:
        self._subject, self._max_new_tokens, self._batch_size = subject, max_new_tokens, batch_size

    def warm_up(self, chats: Sequence[Messages]) -> None:
        """Answer a few chats, untimed."""
        self.answer(chats)

    def answer(self, chats: Sequence[Messages]) -> Turn:
        """Answer these chats without pages of an earlier round; raises UserError if this version of transformers cannot."""
        release_memory()
        model, made = self._subject.model, self._made(self._subject.chat.prompt_ids(chats))
        with model.continuous_batching_context_manager(**made, block=True, warmup=True) as manager:  # type: ignore[operator]
            texts, seconds = timed(self._subject.device, lambda: self._answers(manager, chats))
        release_memory()
        return Turn(texts, seconds, None)

    def _made(self, token_ids: Sequence[list[int]]) -> dict[str, Any]:
        try:
            from transformers import ContinuousBatchingConfig, GenerationConfig
            from transformers.generation.continuous_batching.utils import WorkloadHints
        except ImportError as error:
            raise UserError(f"this transformers has no such continuous batching: {error}", field="continuous_facts") from error
        own = self._subject.model.generation_config
        ends = {"eos_token_id": own.eos_token_id, "pad_token_id": own.pad_token_id} if own is not None else {}
        blocks = None if self._subject.device.type == "cuda" else _CPU_BLOCKS
        # The machines that matter here bring their own transformers, and up to 5.17 it knows a page's tokens by another name.
        page = "page_size" if "page_size" in {field.name for field in fields(ContinuousBatchingConfig)} else "block_size"
        pages: dict[str, Any] = {page: PAGE_SIZE, "max_requests_per_batch": self._batch_size, "num_blocks": blocks}
        return {
            "generation_config": GenerationConfig(max_new_tokens=self._max_new_tokens, do_sample=False, **ends),
            "continuous_batching_config": ContinuousBatchingConfig(**pages),
            "workload_hints": WorkloadHints(
                max_prompt_length=max(map(len, token_ids)), max_generated_length=self._max_new_tokens, num_requests=len(token_ids)
            ),
        }

    def _answers(self, manager: Any, chats: Sequence[Messages]) -> list[str]:
        """Texts in the order of the chats, from rendering to decoding."""
        token_ids = self._subject.chat.prompt_ids(chats)
        asked = manager.add_requests(inputs=token_ids, max_new_tokens=self._max_new_tokens)
        made: dict[str, list[int]] = {}
        while len(made) < len(asked):
            result = manager.get_result(timeout=_WAIT_SECONDS)
            if result is None:
                if not manager.is_running():
                    raise RuntimeError(f"continuous batching ended after {len(made)} of {len(asked)} answers")
            elif result.error is not None:
                raise RuntimeError(f"continuous batching failed: {result.error}")
            elif result.is_finished():
                made[result.request_id] = result.generated_tokens
        return [first_line(str(self._subject.tokenizer.decode(made[request], skip_special_tokens=True))) for request in asked]


def chats_asked(asked: Sequence[Messages], facts: int, of: int) -> list[Messages]:
    """From chats of `of` facts, prompt by prompt, those of the first `facts`."""
    return [chat for start in range(0, len(asked), of) for chat in asked[start : start + facts]]
