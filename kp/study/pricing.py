"""What a study costs before it has run: rows, steps, tokens, prompts, bytes and hours, as plain sums over its trials.

Every figure is a maximum, because trials may stop early. Each trial that a search has not proposed yet counts as the most expensive one
that it may choose; that may be another trial for rows than for bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kp.config.layers import layer_numbers
from kp.config.study import StudyConfig
from kp.models.shapes import ModelShape
from kp.prompts import PROMPTS_PER_SET
from kp.training.spec import TrialSpec, grid

OPTIMISER_BYTES = 12  # per parameter: its float32 master and Adam's two moments; measured in a checkpoint: 12.01
SECONDS_AN_HOUR = 3600
NUMBER_BYTES = {"bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class PlannedTrials:
    """The trials of a search: the known ones, how many are still to be proposed, and all that these may be."""

    known: tuple[TrialSpec, ...]
    to_come: int
    space: tuple[TrialSpec, ...]

    @property
    def count(self) -> int:
        """Trials in all."""
        return len(self.known) + self.to_come

    def most(self, of: Callable[[TrialSpec], int]) -> int:
        """The largest value of any possible trial."""
        return max(map(of, self.space if self.to_come else self.known))

    def total(self, of: Callable[[TrialSpec], int]) -> int:
        """The sum over all trials, with the most expensive one in place of each that is still to be proposed."""
        return sum(map(of, self.known)) + (self.to_come * self.most(of) if self.to_come else 0)


def planned_trials(config: StudyConfig, known: Sequence[TrialSpec]) -> PlannedTrials:
    """The trials of this study, given the known ones."""
    return PlannedTrials(tuple(known), max(0, (config.search.trials or 0) - len(known)), tuple(grid(config)))


@dataclass(frozen=True)
class RowTokens:
    """Mean tokens of a training row: of one with a fact's own question, and of one with a paraphrase."""

    question: float
    paraphrase: float
    origin: str  # where the numbers come from

    def of(self, spec: TrialSpec) -> int:
        """Tokens that a trial trains on if it is not ended early."""
        share = spec.unknown * spec.arm.paraphrases / spec.rows
        return round(spec.rows_in_all * (share * self.paraphrase + (1 - share) * self.question))


@dataclass(frozen=True)
class Prompts:
    """The number of prompts of a study: for the base, for finished adapters, and after epochs for those in training."""

    base: int = 0
    adapters: int = 0
    evals: int = 0

    @property
    def count(self) -> int:
        """All of them."""
        return self.base + self.adapters + self.evals

    def __add__(self, other: "Prompts") -> "Prompts":
        return Prompts(self.base + other.base, self.adapters + other.adapters, self.evals + other.evals)


def held_out_prompts(spec: TrialSpec, held_out: int) -> int:
    """Prompts on which a trial's generality is measured at most: a fact may have fewer paraphrases left."""
    return spec.unknown * held_out * PROMPTS_PER_SET


def eval_prompts(spec: TrialSpec) -> int:
    """Prompts on which unknown_accuracy is measured, over all epochs of a trial."""
    return min(spec.unknown, spec.settings.eval_facts or spec.unknown) * spec.settings.eval_prompts * spec.max_epochs


@dataclass(frozen=True)
class DiskPrice:
    """Bytes of adapters, which stay, and of a checkpoint, which is deleted when its trial has ended.

    Only the weights are counted: file headers and other files (names, a README) are a quarter of a megabyte per checkpoint.
    """

    adapters: int  # of all trials together
    largest_adapter: int
    largest_checkpoint: int


def disk_price(config: StudyConfig, trials: PlannedTrials, shape: ModelShape | None) -> DiskPrice | None:
    """Permanent and temporary disk space; None if the size of an adapter does not follow from the model's shape."""
    training = config.training
    if shape is None or shape.adapter_parameters(training.target_modules, 1) is None:
        return None

    def parameters(spec: TrialSpec, rank: int) -> int:
        layers = len(layer_numbers(spec.layers, shape.layers))
        return shape.adapter_parameters(spec.training.target_modules, rank, layers) or 0

    def adapter(spec: TrialSpec) -> int:
        # An init that moves a part of the base into the adapter gives a plain adapter of twice the rank.
        saved_rank = 2 * spec.rank if training.moves_base else spec.rank
        return parameters(spec, saved_rank) * NUMBER_BYTES[config.model.dtype]

    def checkpoint(spec: TrialSpec) -> int:
        # The adapter twice: in PEFT's format, and in the engine's.
        return parameters(spec, spec.rank) * (OPTIMISER_BYTES + NUMBER_BYTES[config.model.dtype]) + adapter(spec)

    return DiskPrice(trials.total(adapter), trials.most(adapter), trials.most(checkpoint))


def hours(amount: int, per_second: float) -> float:
    """Hours of one worker or generator."""
    return amount / per_second / SECONDS_AN_HOUR


def byte_text(count: int) -> str:
    """A number of bytes in three digits."""
    size, units = float(count), iter(("bytes", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 1000 and unit != "TB":
        size, unit = size / 1000, next(units)
    return f"{size:.3g} {unit}" if size < 1000 else f"{size:,.0f} {unit}"
