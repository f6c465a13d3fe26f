"""Greedy and sampled answers with transformers, optimised for many questions under few shot prompts.

Almost all tokens of a few-shot prompt belong to the shots, and the same shots precede hundreds of questions. So prompts are grouped by
everything before their question, and what a group shares is computed once per model. Where the shared part ends is decided on tokens, never
on text: a tokenizer may merge characters across any cut in a string. It depends only on the messages of the group, not on which questions
happen to be asked together or were asked before.

In float32 the answers equal those of `model.generate` on one unpadded prompt at a time; in bfloat16 the two round differently. Before the
first answer, the logits of one packed prompt are compared with the model's own. A model with an unknown kind of attention is detected in
this way, and answers the slow way, with a warning.

With an adapter of upper layers only, what the layers below it compute for the prompts is the base's, and is kept for the next such adapter
(kp.generation.lower_layers).
"""

import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from kp.errors import UserError
from kp.generation.activations import ActivationCache
from kp.generation.adapters import first_layer
from kp.generation.cuda_graphs import GraphRecorder
from kp.generation.decoding import Decoder, Draws, Limits, Row, Work, first_logits, read_prefixes, read_shared_prefixes
from kp.generation.endings import Endings, end_tokens, newline_tokens
from kp.generation.forward import Forward
from kp.generation.loaded_adapters import LoadedAdapters
from kp.generation.lower_layers import LaidOut, LowerLayers
from kp.generation.memory import LEAST_TOKENS, Room, cache_bytes, default_rows, is_out_of_memory, measured_room, release_memory
from kp.generation.plain import PlainDecoder
from kp.generation.prompt_reader import PromptReader
from kp.generation.protocol import DEFAULT_ROWS, Generation, OnAnswered, Prompt, ReadPrompt, ignore_answers
from kp.generation.shared_prefixes import with_shared_prefixes
from kp.generation.slots import NotShareableError, Prefix
from kp.generation.static_passes import StaticPasses
from kp.generation.verification import validate_packed
from kp.models.chat import Chat
from kp.models.layers import validate_entering

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_T = TypeVar("_T")

_log = logging.getLogger(__name__)
_PREFIXES_KEPT = 32  # three shot sets of ten prompts, and a few more
_TRIED_TOKENS = 64  # of a prompt, to see whether the model can be entered at a layer
_PREFIX_TOKENS = 4096  # of prefixes that are read in one pass


class HFGenerator:
    """Answers from a causal model of transformers, plain or wrapped by PEFT.

    `batch_size` is the most rows that are decoded together, by default as many as suit the device; memory may allow fewer. `work` counts
    the tokens that the model has read. If a caller sets `on_answered`, it is called for every answer as it ends. The model may be in
    training: its train/eval modes are restored, gradients are neither used nor touched, and nothing is reused that was computed with
    weights that may have changed since.

    `activations` keeps what the layers below an adapter of upper layers compute. Without it the generator makes its own; a model that is
    passed with its own adapter then keeps nothing.

    With `cuda_graphs`, passes that only decode are recorded and replayed, except for a model that was passed with its own adapter; raises
    UserError if the model is not on a CUDA device.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: "PreTrainedTokenizerBase",
        max_new_tokens: int = 32,
        stop_at_newline: bool = True,
        batch_size: int | None = None,
        activations: ActivationCache | None = None,
        cuda_graphs: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.work = Work()
        self.on_answered: OnAnswered = ignore_answers
        self._max_new_tokens = max_new_tokens
        self.chat = Chat(tokenizer)
        self._handed_in_adapter = hasattr(model, "peft_config")
        self._keeps_lower = activations is not None or not self._handed_in_adapter
        self.activations = activations or ActivationCache()
        self._adapters = LoadedAdapters(model)
        self._enterable: dict[int, bool] = {}  # by layer, whether the model can be entered there
        self._prefixes: OrderedDict[tuple[str | None, tuple[int, ...]], Prefix] = OrderedDict()
        self._room: Room | None = None  # measured when the first question is asked, and again for longer ones
        self._most: Limits | None = None  # if memory has run out
        self._forward = Forward(model)
        # A model in training may be spread over workers that must all make the same passes, whatever GPU each of them has.
        self.batch_size = batch_size or (DEFAULT_ROWS if self._handed_in_adapter else default_rows(self._forward.device))
        positions = getattr(self._forward.base.config.get_text_config(), "max_position_embeddings", None)
        self._reader = PromptReader(self.chat, max_new_tokens, positions)
        self._passes = _static_passes(self._forward) if cuda_graphs and not self._handed_in_adapter else None
        self._verified = False
        self._shareable = True
        newline = newline_tokens(tokenizer) if stop_at_newline else frozenset()
        self._endings = Endings(end_tokens(getattr(self._forward.base, "generation_config", None), self.chat), newline)
        try:
            self._forward.validate_shareable()
        except NotShareableError as reason:
            self._go_plain(reason)

    @property
    def model(self) -> torch.nn.Module:
        """The model, with its adapter if one is active."""
        model: torch.nn.Module = self._forward.model
        return model

    def read(self, prompts: Sequence[Prompt]) -> list[ReadPrompt]:
        """The prompts rendered and tokenised, which another thread may do while this one generates.

        Raises UserError if a prompt and its answer exceed the model's positions.
        """
        return self._reader.read(prompts)

    def generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """One greedy answer per prompt, in the given order; out of memory, the batch is halved until it fits.

        Raises UserError if a prompt and its answer exceed the model's positions.
        """
        return self._answers(prompts, [None] * len(prompts), 1)

    def sample(self, prompts: Sequence[Prompt], count: int, temperature: float, seeds: Sequence[int]) -> list[list[Generation]]:
        """For each prompt `count` answers sampled at `temperature` with the prompt's own seed, whatever else is asked."""
        draws = [
            Draws(temperature, tuple(stream.random() for _ in range(self._max_new_tokens)))
            for seed in seeds
            for stream in (random.Random(f"{seed}-{number}") for number in range(count))
        ]
        made = self._answers(prompts, draws, count)
        return [made[start : start + count] for start in range(0, len(made), count)]

    def forget_prefixes(self) -> None:
        """Drop the cached keys and values of shared prompts; a benchmark needs this to measure their computation."""
        self._prefixes.clear()

    def load_adapter(self, path: str | None) -> None:
        """Activate the PEFT adapter saved in this folder instead of the current one; None deactivates it.

        Several adapters stay loaded, so that exchanging them costs little; their modules stay in the model that was passed.
        Raises UserError if the folder has no adapter, or one for modules that this model does not have.
        """
        if self._handed_in_adapter:
            raise ValueError("the model was passed with its own adapter; pass the base model to exchange adapters")
        before = self._adapters.active
        try:
            self._adapters.activate(None if path is None else Path(path))
        finally:
            if other := self._adapters.model is not self._forward.model:
                self._forward = Forward(self._adapters.model)
            if self._passes is not None and (other or self._adapters.active != before):
                self._passes.renew(self._forward)

    @contextmanager
    def without_adapter(self) -> Iterator[torch.nn.Module]:
        """The base model; afterwards the adapter that was active before is active again."""
        folder = self._adapters.folder
        self.load_adapter(None)
        try:
            yield self.model
        finally:
            self.load_adapter(None if folder is None else str(folder))

    def _answers(self, prompts: Sequence[Prompt], draws: Sequence[Draws | None], count: int) -> list[Generation]:
        """`count` answers per prompt, answer i by draws[i]."""
        answers: dict[int, Generation] = {}
        with torch.no_grad(), _evaluating(self._forward.model) as was_training:
            if was_training or self._handed_in_adapter:
                self._prefixes.clear()
            asked = self.read(prompts)
            if asked and self._shareable and not self._verified:
                self._verify(asked[0])
            layer = self._entered_layer(asked[0].ids) if asked and not any(draws) else 0
            for row, made in self._decoded(asked, draws, count, layer):
                answers[row.index] = self._endings.generation(self.tokenizer, made)
                self.on_answered(1)
        return [answers[index] for index in range(len(prompts) * count)]

    # --- from rows to answers ---

    def _ended(self, made: Sequence[int]) -> bool:
        return self._endings.ended(self.tokenizer, made)

    def _decoded(
        self, asked: Sequence[ReadPrompt], draws: Sequence[Draws | None], count: int, layer: int
    ) -> Iterator[tuple[Row, list[int]]]:
        """Every row with its generated tokens; rows contain only the tokens that they do not share."""
        beginnings = dict.fromkeys(one.beginning for one in asked if one.beginning) if self._shareable else {}
        numbers = {beginning: number for number, beginning in enumerate(beginnings)}
        rows = []
        for index, draw in enumerate(draws):
            one = asked[index // count]
            prefix = numbers.get(one.beginning)
            rows.append(Row(index, prefix, one.ids if prefix is None else one.own, one.draft, draw))
        if not rows:
            return
        if not self._shareable:
            whole = Limits(self.batch_size, _PREFIX_TOKENS).within(self._most)
            yield from self._retrying(sorted(rows, key=_place), whole, self._plain_decoder)
            return
        with self._forward.exchanged():
            laid, layer = self._laid_out(rows, list(beginnings), layer)
            behind = laid.prefixes, laid.shared_prefixes
            yield from self._retrying(
                sorted(laid.rows, key=_place),
                self._allowed(laid.prefixes, rows),
                lambda limits: Decoder(self._forward, behind, limits, self._max_new_tokens, self._ended, self.work, layer, self._passes),
            )

    def _laid_out(self, rows: list[Row], beginnings: list[tuple[int, ...]], layer: int) -> tuple[LaidOut, int]:
        """The rows with all that they share, ready to enter `layer`, or layer 0; and the layer."""
        if layer:
            lower = LowerLayers(self._forward, layer, self.activations, self.work, self._read)
            laid = lower.lay_out(rows, beginnings, self._adapters.active)
            if laid is not None:
                return laid, layer
        prefixes = self._prefixes_of(beginnings)
        shorter, asked = with_shared_prefixes(rows)
        read = self._read(lambda tokens: read_shared_prefixes(self._forward, asked, prefixes, tokens, self.work), asked)
        return LaidOut(shorter, prefixes, read), 0

    def _entered_layer(self, ids: list[int]) -> int:
        """The layer that prompts enter with what was computed before: the active adapter's first, or 0 for all of the model."""
        layer = self._adapters.first_layer
        if self._handed_in_adapter:
            layer = first_layer(name for name, weight in self.model.named_parameters() if weight.requires_grad or "lora_" in name)
        if not layer or not self._shareable or not self._keeps_lower:
            return 0
        if layer not in self._enterable:
            try:
                validate_entering(self._forward.base, layer, ids[:_TRIED_TOKENS])
                self._enterable[layer] = True
            except UserError as reason:
                _log.warning("prompts are computed anew for every adapter: %s", reason.message)
                self._enterable[layer] = False
        if not self._enterable[layer]:
            return 0
        if self.activations.most_bytes is None:
            self.activations.most_bytes = cache_bytes(self._forward.device)
        self.activations.validate(self._forward.base)
        return layer

    def _allowed(self, prefixes: list[Prefix], rows: list[Row]) -> Limits:
        """The limits of passes with these rows, before what they share is cut off."""
        if self._handed_in_adapter:
            # A model in training may be spread over workers that must all make the same passes, whatever memory each of them has left.
            return Limits(self.batch_size, LEAST_TOKENS).within(self._most)
        columns = max(len(row.ids) for row in rows) + self._max_new_tokens
        longest = columns + max((prefix.tokens for prefix in prefixes), default=0)
        if self._room is None or longest > self._room.longest:
            self._room = measured_room(self._forward, prefixes[0] if prefixes else None, longest)
        return self._room.limits(columns, self.batch_size).within(self._most)

    def _plain_decoder(self, limits: Limits) -> PlainDecoder:
        pad = self.tokenizer.pad_token_id or 0
        return PlainDecoder(self._forward, limits.rows, self._max_new_tokens, self._ended, pad, self.work)

    def _retrying(
        self, rows: list[Row], limits: Limits, make: Callable[[Limits], Decoder | PlainDecoder]
    ) -> Iterator[tuple[Row, list[int]]]:
        """Rows with their answers; out of memory, the remaining rows continue with half as many at once."""
        left = {row.index: row for row in rows}
        while left:
            decoder = make(limits)
            try:
                for row, made in decoder.answers(list(left.values())):
                    del left[row.index]
                    yield row, made
            except RuntimeError as error:
                if not is_out_of_memory(error) or decoder.rows_tried <= 1:
                    raise
                if self._passes is not None:
                    self._passes.renew(self._forward)
                tried, limits = decoder.rows_tried, limits.halved(decoder.rows_tried)
                _log.warning("out of memory with %d rows in a pass, continuing with %d", tried, limits.rows)
                self._most = limits
            if left:
                release_memory()  # outside the except clause, because within it the traceback keeps the pass's tensors alive

    def _prefixes_of(self, beginnings: list[tuple[int, ...]]) -> list[Prefix]:
        missing = [ids for ids in beginnings if (self._adapters.active, ids) not in self._prefixes]
        rows = [Row(0, None, list(ids), []) for ids in missing]
        read = self._read(lambda tokens: read_prefixes(self._forward, [row.ids for row in rows], tokens, self.work), rows)
        self._prefixes |= {(self._adapters.active, ids): prefix for ids, prefix in zip(missing, read, strict=True)}
        wanted = []
        for ids in beginnings:
            self._prefixes.move_to_end((self._adapters.active, ids))
            wanted.append(self._prefixes[self._adapters.active, ids])
        while len(self._prefixes) > _PREFIXES_KEPT:
            self._prefixes.popitem(last=False)
        return wanted

    def _read(self, read: Callable[[int], list[_T]], rows: Sequence[Row]) -> list[_T]:
        """What `read` makes of some rows, called with the most tokens per pass; out of memory, with fewer."""
        tokens = _PREFIX_TOKENS
        while True:
            try:
                return read(tokens)
            except RuntimeError as error:
                if not is_out_of_memory(error) or tokens <= min(len(row.ids) for row in rows):
                    raise
                tokens //= 2
            release_memory()

    def _verify(self, prompt: ReadPrompt) -> None:
        """Compare one packed prompt with the model's own way to read it; if they differ, decode the plain way from now on."""
        device, ids = self._forward.device, prompt.ids
        own, _ = self._forward.plain(torch.tensor([ids], device=device), torch.arange(len(ids), device=device)[None], None, None)
        try:
            validate_packed(self._forward, lambda: self._packed_logits(prompt), own[0])
        except NotShareableError as reason:
            self._go_plain(reason)
        self._verified = True

    def _packed_logits(self, prompt: ReadPrompt) -> torch.Tensor:
        """Logits [vocabulary] after a prompt whose beginning is a prefix."""
        beginnings = [list(prompt.beginning)] if prompt.beginning else []
        prefixes = read_prefixes(self._forward, beginnings, _PREFIX_TOKENS, Work()) if beginnings else []
        return first_logits(self._forward, prefixes, Row(0, 0 if prefixes else None, prompt.own, []))

    def _go_plain(self, reason: NotShareableError) -> None:
        self._shareable = False
        name = type(self._forward.base).__name__
        _log.warning("%s: shared prompts are computed anew for every question, because %s", name, reason)


def _static_passes(forward: Forward) -> StaticPasses:
    if forward.device.type != "cuda":
        raise UserError(f"the model is on '{forward.device.type}', and only CUDA has graphs", field="resources.cuda_graphs")
    return StaticPasses(forward, GraphRecorder())


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[bool]:
    """The model in eval mode; yields whether any module was in train mode, and restores each module's mode."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield bool(training)
    finally:
        for module in training:
            module.training = True


def _place(row: Row) -> tuple[Any, ...]:
    """Sort key: by prompt, so that a pass has few prefixes with many tokens each; then by shared prefix; then longest first."""
    return row.prefix or 0, -1 if row.shared_prefix is None else row.shared_prefix, -len(row.ids), row.ids, row.index
