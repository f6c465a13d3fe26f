"""Greedy generation with transformers, made for many questions asked under few shot prompts.

Almost all tokens of a few-shot prompt belong to the shots, and the same shots stand before hundreds of questions. So prompts are grouped by
everything before their question, and what a group shares is computed once. Where the shared part ends is decided on tokens, never on text:
a tokenizer may join characters across any cut in a string. It depends on the messages of the group alone, not on which questions happen
to come together or came before, so that a study which is interrupted and taken up again is given the same arithmetic.

In float32 the answers are those of `model.generate` on one unpadded prompt at a time; in bfloat16 both round, differently.
"""

import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kp.errors import UserError
from kp.generation import FinishReason, Generation, Messages
from kp.generation.batches import LastLogits, NotShareableError, PlainBatch, Prefix, RowBatch, SharedPrefixBatch, compute_prefix
from kp.generation.rendering import chat_format, render, tokenise

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_log = logging.getLogger(__name__)
_LABEL = re.compile(r"\w{1,20}:")
_PREFIXES_KEPT = 32  # three shot sets of ten prompts, and some
_COMPACT_BELOW = 0.9  # share of live rows under which the ended ones are taken out


@dataclass(frozen=True)
class _Row:
    index: int  # place in the caller's list
    ids: list[int]  # tokens after the shared prefix


class HFGenerator:
    """Greedy answers from a causal model of transformers, plain or wrapped by PEFT.

    The model may be one in training: its modes are given back as found, gradients are neither used nor touched, and nothing computed
    with weights that may have changed since is used again.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: "PreTrainedTokenizerBase",
        max_new_tokens: int = 32,
        stop_at_newline: bool = True,
        batch_size: int = 64,
    ) -> None:
        self.tokenizer = tokenizer
        self._max_new_tokens = max_new_tokens
        self._batch_size = batch_size
        self._format = chat_format(tokenizer)
        self._handed_in_adapter = hasattr(model, "peft_config")
        self._adapter: str | None = None
        self._prefixes: OrderedDict[tuple[str | None, tuple[int, ...]], Prefix] = OrderedDict()
        self._forward = LastLogits(model)
        self._shareable = self._forward.can_share
        self._eos = _end_tokens(self._forward.base, tokenizer)
        self._newline = _newline_tokens(tokenizer) if stop_at_newline else frozenset()
        if not self._shareable:
            self._warn_plain("its attention cannot be exchanged")

    @property
    def model(self) -> torch.nn.Module:
        """The model as it stands, wearing its adapter if it has one."""
        return self._forward.model

    def generate(self, prompts: Sequence[Messages]) -> list[Generation]:
        """One answer per prompt, in the order given; out of memory, a batch is halved until it fits.

        Raises UserError where a prompt and its answer exceed the model's positions.
        """
        answers: dict[int, Generation] = {}
        with torch.no_grad(), _evaluating(self._forward.model) as was_training:
            if was_training or self._handed_in_adapter:
                self._prefixes.clear()
            for shared, rows in self._groups(prompts):
                answers.update(self._answer_group(shared, rows))
        return [answers[index] for index in range(len(prompts))]

    def load_adapter(self, path: str | None) -> None:
        """Wear the PEFT adapter saved in this folder in place of the present one; None takes it off.

        Raises UserError if the folder holds no adapter, or one for other modules than this model has.
        """
        if self._handed_in_adapter:
            raise ValueError("the model was handed in with an adapter of its own; give the generator the base model to exchange adapters")
        digest = None if path is None else _adapter_digest(Path(path))
        model = self._forward.model
        if self._adapter is not None:
            model = model.unload()
            self._adapter, self._forward = None, LastLogits(model)
        if path is not None:
            self._forward = LastLogits(_wear(model, Path(path)))
            self._adapter = digest

    # --- from prompts to groups of rows ---

    def _groups(self, prompts: Sequence[Messages]) -> Iterator[tuple[list[int], list[_Row]]]:
        """Token ids that a group of prompts shares, and its rows without them, longest first."""
        by_beginning: dict[tuple[Any, ...], list[int]] = {}
        for index, messages in enumerate(prompts):
            by_beginning.setdefault(_beginning(messages), []).append(index)
        for indices in by_beginning.values():
            group = [prompts[index] for index in indices]
            token_ids = tokenise(self.tokenizer, [render(self.tokenizer, messages, self._format) for messages in group], self._format)
            self._check_length(max(map(len, token_ids)))
            shared = self._shared_tokens(group[0], token_ids) if self._shareable else []
            rows = [_Row(index, ids[len(shared) :]) for index, ids in zip(indices, token_ids, strict=True)]
            yield shared, sorted(rows, key=lambda row: (-len(row.ids), row.ids, row.index))

    def _shared_tokens(self, messages: Messages, token_ids: list[list[int]]) -> list[int]:
        """Tokens that any question after these messages would share: what two made-up ones share."""
        label = _label(messages)
        probes = [[*messages[:-1], {**messages[-1], "content": label + ending}] for ending in (" A", " 1")]
        made_up = tokenise(self.tokenizer, [render(self.tokenizer, probe, self._format) for probe in probes], self._format)
        # The last token of a row is never shared: its logits begin the answer.
        return _common_start([*made_up, *(ids[:-1] for ids in token_ids)])

    def _check_length(self, longest: int) -> None:
        limit = getattr(self._forward.base.config, "max_position_embeddings", None)
        if limit is not None and longest + self._max_new_tokens > limit:
            raise UserError(
                f"categorise.max_new_tokens: a prompt of {longest} tokens and {self._max_new_tokens} new ones exceed "
                f"the {limit} positions of the model"
            )

    # --- from groups to answers ---

    def _answer_group(self, shared: list[int], rows: list[_Row]) -> Iterator[tuple[int, Generation]]:
        size, waiting = self._batch_size, rows
        while waiting:
            batch, waiting = waiting[:size], waiting[size:]
            try:
                answered = self._answer_batch(shared, batch)
            except NotShareableError as reason:
                self._warn_plain(str(reason))
                self._shareable = False
                shared, waiting = [], [_Row(row.index, [*shared, *row.ids]) for row in [*batch, *waiting]]
                continue
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                size, waiting = (len(batch) + 1) // 2, [*batch, *waiting]
                _log.warning("out of memory with %d rows in a batch, going on with %d", len(batch), size)
                answered = []
            if not answered:
                _release_memory()  # outside the except clause: until it ends, the traceback holds the batch's tensors
            yield from answered

    def _answer_batch(self, shared: list[int], rows: list[_Row]) -> list[tuple[int, Generation]]:
        device = next(self._forward.model.parameters()).device
        longest = len(rows[0].ids)
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[pad] * (longest - len(row.ids)) + row.ids for row in rows], device=device)
        lengths = torch.tensor([len(row.ids) for row in rows], device=device)
        valid = torch.arange(longest, device=device) >= (longest - lengths)[:, None]
        batch: RowBatch
        if shared:
            batch = SharedPrefixBatch(self._forward, self._prefix(shared), longest + self._max_new_tokens)
        else:
            batch = PlainBatch(self._forward)
        made = self._decode(batch, batch.prefill(ids, valid))
        return [(row.index, self._generation(tokens)) for row, tokens in zip(rows, made, strict=True)]

    def _prefix(self, shared: list[int]) -> Prefix:
        key = (self._adapter, tuple(shared))
        if key not in self._prefixes:
            self._prefixes[key] = compute_prefix(self._forward, shared)
            if len(self._prefixes) > _PREFIXES_KEPT:
                self._prefixes.popitem(last=False)
        self._prefixes.move_to_end(key)
        return self._prefixes[key]

    def _decode(self, batch: RowBatch, logits: Tensor) -> list[list[int]]:
        """The tokens that each row makes, the ending one included; rows that have ended leave the batch."""
        made: list[list[int]] = [[] for _ in range(len(logits))]
        places = list(range(len(logits)))  # which row of `made` each row of the batch is
        ended: set[int] = set()
        for count in range(1, self._max_new_tokens + 1):
            tokens = logits.argmax(dim=-1)
            for place, token in zip(places, tokens.tolist(), strict=True):
                if place not in ended:
                    made[place].append(token)
                    if token in self._eos or token in self._newline:
                        ended.add(place)
            live = [row for row, place in enumerate(places) if place not in ended]
            if not live or count == self._max_new_tokens:
                break
            if len(live) < _COMPACT_BELOW * len(places):
                kept = torch.tensor(live, device=tokens.device)
                batch.keep(kept)
                tokens, places = tokens[kept], [places[row] for row in live]
            logits = batch.step(tokens)
        return made

    def _generation(self, tokens: list[int]) -> Generation:
        text = str(self.tokenizer.decode(tokens, skip_special_tokens=True))
        if tokens[-1] in self._eos:
            reason = FinishReason.STOP
        elif tokens[-1] in self._newline:
            text, reason = text.partition("\n")[0], FinishReason.NEWLINE
        else:
            reason = FinishReason.LENGTH
        return Generation(text=text, finish_reason=reason, tokens=len(tokens))

    def _warn_plain(self, reason: str) -> None:
        name = type(self._forward.base).__name__
        _log.warning("%s: shared prompts are computed anew for every question, because %s", name, reason)


def _beginning(messages: Messages) -> tuple[Any, ...]:
    return tuple((message["role"], message["content"]) for message in messages[:-1]), messages[-1]["role"], _label(messages)


def _label(messages: Messages) -> str:
    """The word before a colon with which the last message begins ("Question:"), or nothing."""
    found = _LABEL.match(messages[-1]["content"])
    return found.group() if found else ""


def _common_start(sequences: list[list[int]]) -> list[int]:
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, zip(*sequences, strict=False))]


def _end_tokens(base: Any, tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    configured = getattr(getattr(base, "generation_config", None), "eos_token_id", None)
    ends = tokenizer.eos_token_id if configured is None else configured
    return frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])


def _newline_tokens(tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """Every token whose text holds a newline."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    return frozenset(token for token, text in enumerate(texts) if "\n" in text)


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[bool]:
    """The model in eval mode; yields whether any module was in train mode, and puts each back as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield bool(training)
    finally:
        for module in training:
            module.training = True


def _release_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _adapter_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise UserError(f"adapter {folder}: has no {name}")
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _wear(model: torch.nn.Module, folder: Path) -> torch.nn.Module:
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    # The weights as stored, in the model's own number format: the same arithmetic as in training.
    wearing = PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=False)
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as stored:
        names = set(stored.keys())
    if names != set(get_peft_model_state_dict(wearing, save_embedding_layers=False)):
        wearing.unload()
        raise UserError(f"adapter {folder}: was trained on other modules than this model has")
    return wearing.eval()
