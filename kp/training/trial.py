"""One worker's part in one trial: epochs on a DeepSpeed engine, an evaluation after each, and the content of a checkpoint.

Everything random in an epoch (row order, dropout) is seeded by the trial's seed and the epoch's number, so a run that was killed and
resumed takes the same steps as one that was not, and so does one whose worker has trained other trials before. The loss of a step is a mean
over tokens of the *global* batch (kp.training.loss), however it is split over workers and passes: one worker and two take the same step.
"""

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kp.generation.protocol import ReadPrompt
from kp.inference.answering import answer_questions, read_questions
from kp.metrics.matching import AnswerKeys
from kp.store.hardware import distinct_hardware, process_hardware
from kp.training.base_model_cache import BaseModelCache, checkpoint_layers, validate_packing
from kp.training.batches import Batch, make_batch
from kp.training.encoding import EncodedRow, encode_row, epoch_order, trained_tokens
from kp.training.engine import (
    Place,
    collect_memory,
    deepspeed_engine,
    gathered_adapter,
    keep_out_frozen,
    parameter_count,
    save_adapter,
    with_lora,
)
from kp.training.forcing import ForcedRow, forced_answers, forced_packing, forced_rows, summary_of
from kp.training.frozen_layers import FrozenLayers, above
from kp.training.job import ADAPTER, Progress, TrialJob
from kp.training.laps import Lap, Laps
from kp.training.longest_pass import fitting_rows, room_for_states
from kp.training.loss import batch_loss
from kp.training.schedule import epochs_to_target, lr_multiplier
from kp.vocabulary import Activity, EvalMode, Role, TrialStatus

_log = logging.getLogger(__name__)

STATE_TAG = "engine"
MEASURED_ON = ("cuda",)
"""Devices on which a pass that does not fit raises an error: on others the process is killed."""
_REPLAYED = (Role.HIGHLY_KNOWN.value, Role.MAYBE_KNOWN.value)


class TrialTraining:
    """A trial in training; all its workers must make the same calls in the same order. `close` releases the base model."""

    def __init__(self, model_cache: BaseModelCache, job: TrialJob, place: Place, micro_batch: int | None = None) -> None:
        import torch

        began, since = time.monotonic(), time.time()
        self.job, self.spec, self._place, self._model_cache = job, job.spec, place, model_cache
        self._keys = AnswerKeys.of_table(job.all_facts)
        self._rows = [self._encode(row) for row in job.rows.to_pylist()]
        share = math.ceil(self.spec.training.batch_size / place.world)
        self._micro_rows = min(micro_batch or share, share)
        base = model_cache.acquire()
        validate_packing(base.config, self.spec.training.packing, max(len(row.ids) for row in self._rows))
        model_cache.validate_layout(base, self._rows, self.spec.training.packing)
        torch.manual_seed(self.spec.seed)
        self._model = with_lora(base, self.spec)
        if model_cache.engine.gradient_checkpointing:
            checkpoint_layers(base)
        # PEFT writes the base's origin into adapter_config.json; a cache path of this machine would mean nothing elsewhere.
        described = self._model.peft_config["default"]
        described.base_model_name_or_path, described.revision = model_cache.resolved.name, model_cache.resolved.revision
        self._dtype = base.dtype
        keep_out_frozen(self._model)
        self._asked: list[ReadPrompt] | None = None  # the evaluated questions, the same after every epoch
        self._forced = self._forced_rows() if self.spec.settings.eval_mode is EvalMode.TEACHER_FORCED else []
        self.reading_seconds = 0.0
        """In which the layers below the first adapted one read this trial's rows, before its first step; a part of its set-up."""
        self._frozen = self._frozen_layers()
        # Stage 3 is for models that do not fit before they are split.
        if model_cache.device in MEASURED_ON and self.spec.training.zero_stage < 3:
            self._micro_rows = fitting_rows(self._try_pass, self._rows, self._micro_rows, place)
        self._micro_batches = math.ceil(share / self._micro_rows)
        self.progress = Progress(hardware=distinct_hardware(place.gathered(process_hardware())))

        def multiplier(step: int) -> float:  # not a method, whose state torch would save
            return lr_multiplier(self.spec, step, self._reached())

        self._engine = deepspeed_engine(self._model, self.spec, model_cache.engine.model.dtype, place, self._micro_batches, multiplier)
        self._started_as = gathered_adapter(self._engine, self.spec.training.zero_stage) if self.spec.training.moves_base else None
        self.progress.trainable_parameters = sum(parameter_count(p) for p in self._model.parameters() if p.requires_grad)
        self.progress.setup_seconds = time.monotonic() - began
        self.progress.note(Activity.SETUP, since)
        self._correct: list[int] = []  # right answers of each evaluated fact, when last measured
        self.step_losses: list[float] = []
        """Mean cross entropy per trained token of each optimiser step of the last epoch."""
        self.read_tokens = 0
        """Tokens that this worker's model read for the last epoch's steps: including padding, and shared tokens once."""
        self.laps = Laps()
        """Of the last epoch's steps."""
        self.on_step: Callable[[int], None] = _ignore
        """Called after every optimiser step with its number in the trial, for those who watch."""

    def _encode(self, row: dict[str, Any]) -> EncodedRow:
        replayed = row["role"] in _REPLAYED
        return encode_row(
            self._model_cache.chat, row["question"], row["target"], self.spec.training.loss, self.spec.training.max_length, replayed
        )

    def _frozen_layers(self) -> FrozenLayers | None:
        """The layers below the first adapted one, after they have read this trial's rows; None if steps compute all layers.

        They read before ZeRO-3 spreads their weights over the workers. Later all workers would have to read at the same time, so that stage
        needs room for all rows.
        """
        packing = self.spec.training.packing
        frozen = self._model_cache.frozen_layers(self._model, packing, self._rows)
        if frozen is None:
            return None
        forced = replace(frozen, packing=forced_packing(self._model.config, self._forced, packing))
        began = time.monotonic()
        have_room = [frozen.read(self._rows), forced.read([one.row for one in self._forced])]
        self.reading_seconds = time.monotonic() - began
        if all(have_room) or self.spec.training.zero_stage < 3:
            return frozen
        _log.warning("resources.activation_cache_gib has no room for all rows of the trial, which ZeRO stage 3 needs: nothing is kept")
        return None

    def restore(self, folder: Path) -> None:
        """Continue from a checkpoint."""
        self._engine.load_checkpoint(str(folder), tag=STATE_TAG, load_module_strict=False)
        mine, self.progress = self.progress, Progress.load(folder)
        self.progress.setup_seconds += mine.setup_seconds
        self.progress.hardware = distinct_hardware([*self.progress.hardware, *mine.hardware])
        for activity, spans in mine.spans.items():
            self.progress.spans.setdefault(activity, []).extend(spans)

    def run_epoch(self) -> None:
        """Train one epoch, evaluate, and add the result to the progress, with a status if it was the last."""
        import torch

        epoch = len(self.progress.epochs) + 1
        began, since = time.monotonic(), time.time()
        torch.manual_seed(_dropout_seed(self.spec.seed, epoch, self._place.rank))
        self._engine.train()
        batches = list(self._batches(epoch))
        self.read_tokens, self.laps = 0, Laps()
        rates, cross_entropy, kl, replayed = np.array(list(self._steps(batches))).T
        trained = np.array([trained_tokens(rows) for rows in batches])
        self.step_losses = [float(loss) for loss in cross_entropy / trained]
        seconds, evaluated_since = time.monotonic() - began, time.time()
        loss = float(cross_entropy.sum() / trained.sum())
        if not math.isfinite(loss):
            self.progress.status, self.progress.cause = TrialStatus.DIVERGED, f"the loss of epoch {epoch} is {loss}"
        measured = self._measured() if math.isfinite(loss) else {"unknown_accuracy": 0.0}
        self.progress.epochs.append(
            {
                "epoch": epoch,
                "train_loss": loss,
                **measured,
                "replay_kl": float(kl.sum() / replayed.sum()) if self.spec.kl_coefficient and replayed.any() else None,
                "learning_rate": float(rates[0]),
                "final_learning_rate": float(rates[-1]),
                "steps": len(batches),
                "rows": sum(map(len, batches)),
                "exposures": sum(not row.replayed for rows in batches for row in rows) / self.spec.unknown,
                "tokens": sum(len(row.ids) for rows in batches for row in rows),
                "seconds": seconds,
                "eval_seconds": time.monotonic() - began - seconds,
            }
        )
        if math.isfinite(loss):
            self.progress.fact_correct[str(epoch)] = self._correct
        self.progress.note(Activity.EVALUATION, evaluated_since)
        self.progress.note(Activity.TRAINING, since)
        if self.progress.status is None:
            self._end_where_due()

    @property
    def model(self) -> Any:
        """The PEFT model."""
        return self._model

    @property
    def frozen(self) -> FrozenLayers | None:
        """The layers below the first adapted one, if what they compute is kept."""
        return self._frozen

    def passes(self, number: int) -> list[Batch]:
        """The first passes of the first epoch; only before it is trained."""
        parts = itertools.islice(self._batches(1), number)
        return [make_batch(rows, self.spec.training.packing, self._model_cache.tokenizer.pad_token_id) for rows in parts]

    def _batches(self, epoch: int) -> Iterator[list[EncodedRow]]:
        order = epoch_order(len(self._rows), self.spec.seed, epoch)
        size, left = self.spec.training.batch_size, self.spec.max_steps - self.progress.steps
        for start in range(0, min(len(order), left * size), size):
            yield [self._rows[index] for index in order[start : start + size]]

    def _steps(self, batches: list[list[EncodedRow]]) -> Iterator[tuple[float, float, float, int]]:
        for number, rows in enumerate(batches, start=self.progress.steps + 1):
            yield self._step(rows)
            self.on_step(number)

    def _step(self, rows: list[EncodedRow]) -> tuple[float, float, float, int]:
        """One optimiser step on a global batch: its learning rate, sums of cross entropy and KL, and trained tokens in replayed rows."""
        import torch
        import torch.distributed

        world, trained, replayed = self._place.world, trained_tokens(rows), trained_tokens(row for row in rows if row.replayed)
        coefficient = self.spec.kl_coefficient if replayed else 0.0
        mine, rate = rows[self._place.rank :: world], self._engine.get_lr()[0]
        sums = torch.zeros(2, dtype=torch.float64, device=self._model_cache.device)
        for micro in range(self._micro_batches):
            own = mine[micro * self._micro_rows : (micro + 1) * self._micro_rows]
            self.laps.start()
            # All workers must do the same number of passes: one without rows reads the batch's first at weight 0.
            read = own or rows[:1]
            batch = make_batch(read, self.spec.training.packing, self._model_cache.tokenizer.pad_token_id)
            self.read_tokens += batch.read_tokens
            self.laps.end(Lap.DATA)
            base = self._without_adapter if coefficient else None
            with above(self._frozen, read, batch):
                loss = batch_loss(self._engine, base, batch, self._model_cache.device, self._dtype)
            self.laps.end(Lap.FORWARD)
            # DeepSpeed averages gradients over workers and passes; multiplying by their numbers gives the sum that the step's loss is.
            self._engine.backward(loss.of_step(trained, replayed, coefficient) * (float(bool(own)) * world * self._micro_batches))
            self.laps.end(Lap.BACKWARD)
            self._engine.step()
            self.laps.end(Lap.OPTIMIZER)
            if own:
                sums[0] += loss.cross_entropy.detach()
                sums[1] += 0.0 if loss.kl is None else loss.kl.detach()
        if world > 1:
            torch.distributed.all_reduce(sums)
        return rate, float(sums[0]), float(sums[1]), replayed

    def _try_pass(self, rows: Sequence[EncodedRow]) -> None:
        """A pass over these rows as in a step, of which nothing is left."""
        batch = make_batch(rows, self.spec.training.packing, self._model_cache.tokenizer.pad_token_id)
        base = self._without_adapter if self.spec.kl_coefficient else None
        with room_for_states(self._model, self._model_cache.device), above(self._frozen, rows, batch):
            loss = batch_loss(self._model, base, batch, self._model_cache.device, self._dtype)
            (loss.cross_entropy if loss.kl is None else loss.cross_entropy + loss.kl).backward()

    def _without_adapter(self, **inputs: Any) -> Any:
        with self._model.disable_adapter():
            return self._model(**inputs)

    def _measured(self) -> dict[str, Any]:
        """unknown_accuracy after the epoch that has just ended, and how it was measured.

        Below ZeRO-3 each worker asks its part of the facts; at stage 3 every forward pass involves all workers, so each asks all facts.
        """
        if self.spec.settings.eval_mode is EvalMode.GENERATE:
            return self._generated()
        self._engine.eval()
        found = forced_answers(self._engine, self._forced, self.spec.training.packing, self._model_cache, self._frozen)
        parts = self._place.gathered(found) if self._split else [found]
        self._correct = self._by_fact([part.flags for part in parts])
        forced = {"eval_mode": EvalMode.TEACHER_FORCED.value, **summary_of(parts, self._model_cache.tokenizer)}
        # Whether a trial has learned its facts is told of answers that it has written.
        ends = self._reached([forced["unknown_accuracy"]]) == len(self.progress.epochs) + 1
        return forced | self._generated() if ends else forced

    def _forced_rows(self) -> list[ForcedRow]:
        mine = self._mine()
        keys = self._keys.of_facts(mine)
        return forced_rows(
            self._model_cache.chat,
            mine,
            self.job.eval_shots,
            lambda number, answer: keys[number].judge(answer).by(self.job.matcher),
            self.job.engine.max_new_tokens,
        )

    @property
    def _split(self) -> bool:
        """Whether each worker asks a part of the evaluated facts, and not all of them."""
        return self._place.world > 1 and self.spec.training.zero_stage < 3

    def _mine(self) -> pa.Table:
        facts = self.job.eval_facts
        return facts.take(list(range(self._place.rank, len(facts), self._place.world))) if self._split else facts

    def _generated(self) -> dict[str, Any]:
        """The share of right generated answers to the evaluated Unknown facts over the eval prompts."""
        mine = self._mine()
        # Made anew each time, because the weights have changed, and with them the keys and values of shared prefixes.
        generator = self.job.engine.generator(self._engine.module, self._model_cache.tokenizer)
        if self._asked is None:
            self._asked = read_questions(generator, mine, self.job.eval_shots)
        found = answer_questions(generator, mine, self._asked, self._keys) if len(mine) else []
        right = [answer.matches.by(self.job.matcher) for under_prompt in found for answer in under_prompt]
        parts = self._place.gathered(right) if self._split else [right]
        self._correct = self._by_fact(parts)
        judged = sum(map(len, parts))
        return {"unknown_accuracy": sum(map(sum, parts)) / judged if judged else math.nan, "eval_mode": EvalMode.GENERATE.value}

    def _by_fact(self, parts: list[list[bool]]) -> list[int]:
        """Right answers of each evaluated fact, from the judged answers of every worker's facts, prompt after prompt."""
        prompts, correct = len(self.job.eval_shots), [0] * len(self.job.eval_facts)
        for worker, flags in enumerate(parts):
            facts = len(flags) // prompts
            correct[worker :: len(parts)] = [sum(flags[place::facts]) for place in range(facts)]
        return correct

    def _reached(self, further: Sequence[float] = ()) -> int | None:
        """The epoch in which the trial reached its target, if `further` accuracies follow those so far; None so far."""
        settings, accuracies = self.spec.settings, [epoch["unknown_accuracy"] for epoch in self.progress.epochs]
        return epochs_to_target([*accuracies, *further], settings.stop_at_accuracy, settings.stop_patience)

    def _end_where_due(self) -> None:
        settings, progress, reached = self.spec.settings, self.progress, self._reached()
        if reached is not None and len(progress.epochs) >= reached + settings.anneal_epochs:
            spell = "1 epoch" if settings.stop_patience == 1 else f"{settings.stop_patience} epochs in a row"
            annealed = f", then the learning rate fell to 0 in {settings.anneal_epochs} more" if settings.anneal_epochs else ""
            progress.status = TrialStatus.COMPLETED
            progress.cause = f"unknown_accuracy was at {settings.stop_at_accuracy:g} or above for {spell}{annealed}"
        elif progress.steps >= self.spec.max_steps:
            progress.status, progress.cause = TrialStatus.COMPLETED, f"ran its {len(progress.epochs)} epochs, {progress.steps} steps"

    def save(self, folder: Path) -> None:
        """Write adapter, optimiser state and progress into a folder that all workers share."""
        self._engine.save_checkpoint(str(folder), tag=STATE_TAG, exclude_frozen_parameters=True)
        state = gathered_adapter(self._engine, self.spec.training.zero_stage)
        if self._place.rank == 0:
            save_adapter(self._model, state, self._started_as, folder / ADAPTER)
            self.progress.save(folder)

    @property
    def micro_rows(self) -> int:
        """Most rows of a pass."""
        return self._micro_rows

    def close(self) -> None:
        """End it: remove the adapter and release the base model, unless the trial changed it; nothing else of the trial stays in memory.

        After ZeRO stage 3 DeepSpeed keeps the model all the same, whatever is destroyed: such a process must end before the next trial.
        """
        # An engine that is not destroyed keeps its model, through hooks that Python's collector does not see.
        self._engine.destroy()
        if self.spec.training.zero_stage < 3 and not self.spec.training.moves_base:  # stage 3 has partitioned the base over the workers
            self._model_cache.release(self._model.unload())
        self._forget()

    def discard(self) -> None:
        """End it after an error: nothing of it stays in memory, nor does the base model, whose state is unknown.

        To be called when the error has been handled, because its traceback keeps the tensors of the pass. Raises torch.AcceleratorError if
        the GPU is of no more use to this process.
        """
        self._engine.destroy()
        self._forget()

    def _forget(self) -> None:
        del self._engine, self._model, self._frozen, self._started_as
        collect_memory()


def _ignore(step: int) -> None:
    """Nobody watches."""


def _dropout_seed(seed: int, epoch: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0])
