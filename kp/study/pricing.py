"""What a study costs before it has run: rows, steps, tokens, prompts, bytes and hours, as plain sums over its trials.

Every figure is the most there can be, since trials may stop early. Where a search is yet to propose trials, each of these counts as the
most expensive that it may choose; that may be another trial for rows than for bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kp.config.study import StudyConfig
from kp.models.shapes import ModelShape
from kp.prompts import PROMPTS_PER_SET
from kp.training.spec import TrialSpec, grid

OPTIMISER_BYTES = 12  # a parameter: its float32 master and Adam's two moments; a checkpoint measures 12.01
SECONDS_AN_HOUR = 3600
NUMBER_BYTES = {"bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class PlannedTrials:
    """The trials of a search: those that are known, how many are yet to be proposed, and all that these may be."""

    known: tuple[TrialSpec, ...]
    to_come: int
    space: tuple[TrialSpec, ...]

    @property
    def count(self) -> int:
        """Trials in all."""
        return len(self.known) + self.to_come

    def most(self, of: Callable[[TrialSpec], int]) -> int:
        """The largest value of any trial that may be run."""
        return max(map(of, self.space if self.to_come else self.known))

    def total(self, of: Callable[[TrialSpec], int]) -> int:
        """The sum over all trials, with the most expensive in place of each that is yet to come."""
        return sum(map(of, self.known)) + (self.to_come * self.most(of) if self.to_come else 0)


def planned_trials(config: StudyConfig, known: Sequence[TrialSpec]) -> PlannedTrials:
    """The trials of this study, of which these are known."""
    return PlannedTrials(tuple(known), max(0, (config.search.trials or 0) - len(known)), tuple(grid(config)))


@dataclass(frozen=True)
class RowTokens:
    """Tokens of a training row, on average: one that asks a fact's own question, and one that asks a paraphrase."""

    question: float
    paraphrase: float
    origin: str  # how that is known

    def of(self, spec: TrialSpec) -> int:
        """Tokens that a trial trains on when it runs its course."""
        share = spec.unknown * spec.arm.paraphrases / spec.rows
        return round(spec.rows_in_all * (share * self.paraphrase + (1 - share) * self.question))


@dataclass(frozen=True)
class Prompts:
    """Prompts that a study has answered: by the base, by finished adapters, and after epochs by those in training."""

    base: int = 0
    adapters: int = 0
    evals: int = 0

    @property
    def count(self) -> int:
        """All of them."""
        return self.base + self.adapters + self.evals

    def __add__(self, other: "Prompts") -> "Prompts":
        return Prompts(self.base + other.base, self.adapters + other.adapters, self.evals + other.evals)


def held_out_prompts(spec: TrialSpec) -> int:
    """Prompts on which a trial's generality is measured."""
    return spec.unknown * spec.settings.held_out_paraphrases * PROMPTS_PER_SET


def eval_prompts(spec: TrialSpec) -> int:
    """Prompts on which unknown_accuracy is measured, over all epochs of a trial."""
    return min(spec.unknown, spec.settings.eval_facts or spec.unknown) * spec.settings.eval_prompts * spec.max_epochs


@dataclass(frozen=True)
class DiskPrice:
    """Bytes of adapters, which stay, and of a checkpoint, which goes when its trial has ended.

    Of their numbers alone: what describes them in a file (names, a README) is a quarter of a megabyte a checkpoint.
    """

    adapters: int  # of all trials together
    largest_adapter: int
    largest_checkpoint: int


def disk_price(config: StudyConfig, trials: PlannedTrials, shape: ModelShape | None) -> DiskPrice | None:
    """What stays on disk and what comes and goes; None where the model's shape does not tell how large an adapter is."""
    training = config.training
    if shape is None or shape.adapter_parameters(training.target_modules, 1) is None:
        return None

    def adapter(spec: TrialSpec) -> int:
        # What takes a part out of the base leaves as a plain adapter of twice the rank.
        saved_rank = 2 * spec.rank if training.moves_base else spec.rank
        return (shape.adapter_parameters(spec.training.target_modules, saved_rank) or 0) * NUMBER_BYTES[config.model.dtype]

    def checkpoint(spec: TrialSpec) -> int:
        # The adapter twice: as PEFT keeps it, and as the engine has it.
        trained = shape.adapter_parameters(spec.training.target_modules, spec.rank) or 0
        return trained * (OPTIMISER_BYTES + NUMBER_BYTES[config.model.dtype]) + adapter(spec)

    return DiskPrice(trials.total(adapter), trials.most(adapter), trials.most(checkpoint))


def hours(amount: int, per_second: float) -> float:
    """Hours of one worker or generator."""
    return amount / per_second / SECONDS_AN_HOUR
