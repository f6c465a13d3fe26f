"""One trial as a value: what is trained, on which mix, and how.

A trial's knobs are the fields of the config's sections, so that a knob is defined once: its place in the spec, its column in the trials
table, its label and its part in the trial's identity follow from that field. Named here is only what no single config value determines: the
choice that a search makes, and numbers that several knobs determine together.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pyarrow as pa

from kp.config.identity import stated
from kp.config.layers import ALL_LAYERS
from kp.config.search import Arm, SearchArm, TrainingConfig, TrialSettings
from kp.config.section import Section
from kp.config.study import StudyConfig

COMBINED = ("epochs", "steps", "lora_alpha", "lora_alpha_per_rank", "kl_coefficient")
"""Fields that have an effect only together with others; properties of the spec compute the result."""
COMBINED_COLUMNS = {
    "lora_alpha": pa.float64(),
    "lora_scale": pa.float64(),
    "kl_coefficient": pa.float64(),
    "max_epochs": pa.int32(),
    "max_steps": pa.int32(),
    "rows": pa.int32(),  # training rows per epoch
}


@dataclass(frozen=True)
class Choice:
    """What a search chooses for a trial; all its other knobs are the study's."""

    unknown: int  # N, Unknown facts
    arm: SearchArm
    rank: int
    learning_rate: float
    seed: int  # without the study's seed, which is added in a spec
    layers: str  # as kp.config.layers writes them; in a spec they are those of its training, too


@dataclass(frozen=True)
class TrialSpec(Choice):
    """Every knob of one trial."""

    settings: TrialSettings
    training: TrainingConfig
    drawn: int | None = None  # training rows per epoch once they are drawn: fewer than asked for if a pool had fewer

    @property
    def replayed(self) -> int:
        """Facts per Unknown fact that the base knows to some degree."""
        return self.arm.highly_known + self.arm.maybe_known

    @property
    def rows(self) -> int:
        """Training rows per epoch."""
        return self.unknown * (1 + self.replayed + self.arm.paraphrases) if self.drawn is None else self.drawn

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of a complete epoch."""
        return -(-self.rows // self.training.batch_size)

    @property
    def max_epochs(self) -> int:
        """Epochs of a trial that is not ended early; if the study sets steps, as many epochs as these take."""
        return -(-self.training.steps // self.steps_per_epoch) if self.training.steps else self.training.epochs

    @property
    def max_steps(self) -> int:
        """Optimiser steps of a trial that is not ended early."""
        return self.training.steps or self.steps_per_epoch * self.training.epochs

    @property
    def rows_in_all(self) -> int:
        """Training rows of a trial that is not ended early, counted each time they are trained on."""
        whole, rest = divmod(self.max_steps, self.steps_per_epoch)
        return whole * self.rows + min(rest * self.training.batch_size, self.rows)

    @property
    def lora_alpha(self) -> float:
        """LoRA's alpha at this rank."""
        return self.training.alpha(self.rank)

    @property
    def lora_scale(self) -> float:
        """The factor of B x A in the adapted weights: alpha / rank, or alpha / sqrt(rank) with rsLoRA."""
        return self.lora_alpha / (math.sqrt(self.rank) if self.training.use_rslora else self.rank)

    @property
    def kl_coefficient(self) -> float:
        """Weight of the KL; 0 if the mix has no replayed row."""
        return self.training.kl_coefficient if self.replayed else 0.0

    def literals(self) -> dict[str, Any]:
        """The trial's identity in addition to its data and model, as plain JSON: dotted knob -> value, without default values."""
        choice = {"unknown": self.unknown, "rank": self.rank, "learning_rate": self.learning_rate, "seed": self.seed}
        training = {name: value for name, value in stated(self.training).items() if not name.startswith("lora_alpha")}
        if "kl_coefficient" in training and not self.kl_coefficient:
            del training["kl_coefficient"]
        search = {name: value for name, value in stated(self.settings.in_effect()).items() if self.replayed or name != "replay_target"}
        parts = {"arm": stated(self.arm.counts()), "search": search, "training": training}
        dotted = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
        return {**choice, **dotted, "lora_alpha": self.lora_alpha}

    def columns(self) -> dict[str, Any]:
        """The columns of the trials table that follow from the knobs, by name."""
        sections = (self.arm.counts(), self.settings, self.training)
        values = {name: _plain(getattr(section, name)) for section in sections for name in _fields(section)}
        choice = {"unknown": self.unknown, "arm": arm_label(self.arm), "rank": self.rank}
        choice |= {"learning_rate": self.learning_rate, "seed": self.seed}
        combined = {name: getattr(self, name) for name in COMBINED_COLUMNS}
        return choice | values | combined

    def label(self) -> str:
        """The trial in one line for people."""
        companions = ((self.arm.highly_known, "HK"), (self.arm.maybe_known, "MK"), (self.arm.paraphrases, "P"))
        extra = "".join(f" + {count} {name}" for count, name in companions if count) + _replaced(self.arm)
        where = "" if self.layers == ALL_LAYERS else f", layers {self.layers}"
        return f"{self.unknown} UK{extra}, rank {self.rank}, lr {self.learning_rate:.3g}{where}, seed {self.seed}"


def grid(config: StudyConfig) -> list[TrialSpec]:
    """Every combination of the search's lists, in the order in which they are written."""
    search = config.search
    combinations = itertools.product(search.unknown, search.arms, search.rank, search.learning_rate, search.seeds, searched_layers(config))
    return [trial_spec(config, Choice(*combination)) for combination in combinations]


def searched_layers(config: StudyConfig) -> tuple[str, ...]:
    """Which layers the adapters of a study change."""
    return config.search.layers or (config.training.layers,)


def trial_spec(config: StudyConfig, choice: Choice) -> TrialSpec:
    """The trial of this choice in this study."""
    replaced = choice.arm.replaced()
    settings = TrialSettings(**{name: replaced.get(name, getattr(config.search, name)) for name in TrialSettings.model_fields})
    seed = config.seed + choice.seed
    own = {name: value for name, value in replaced.items() if name in TrainingConfig.model_fields}
    training = config.training.model_copy(update={"layers": choice.layers, **own})
    return TrialSpec(choice.unknown, choice.arm, choice.rank, choice.learning_rate, seed, choice.layers, settings, training)


def _fields(section: Section | type[Section]) -> Iterator[str]:
    kind = section if isinstance(section, type) else type(section)
    return (name for name in kind.model_fields if name not in COMBINED)


def _plain(value: object) -> object:
    if isinstance(value, StrEnum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def _column(name: str, annotation: Any) -> pa.Field:
    """The column of a knob of this type; raises TypeError for a type that has no column type yet."""
    if get_origin(annotation) in (Union, UnionType):
        (kind,) = (part for part in get_args(annotation) if part is not NoneType)
        return _column(name, kind).with_nullable(True)
    if hasattr(annotation, "__metadata__"):  # Annotated, as PositiveInt is
        return _column(name, get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return _column(name, type(get_args(annotation)[0]))
    if get_origin(annotation) is tuple:
        return pa.field(name, pa.list_(_column("item", get_args(annotation)[0]).type), nullable=False)
    if isinstance(annotation, type):
        for python, arrow in ((bool, pa.bool_()), (int, pa.int32()), (float, pa.float64()), (str, pa.string())):
            if issubclass(annotation, python):
                return pa.field(name, arrow, nullable=False)
    raise TypeError(f"{name}: no column is made for a knob of type {annotation}")


def _knob_columns() -> Iterator[pa.Field]:
    yield pa.field("unknown", pa.int32(), nullable=False)  # N, the Unknown facts trained on
    yield pa.field("arm", pa.string(), nullable=False)  # the data mix in words
    yield from (_column(name, Arm.model_fields[name].annotation) for name in _fields(Arm))
    yield pa.field("rank", pa.int32(), nullable=False)
    yield pa.field("learning_rate", pa.float64(), nullable=False)
    yield pa.field("seed", pa.int32(), nullable=False)
    for section in (TrialSettings, TrainingConfig):
        yield from (_column(name, section.model_fields[name].annotation) for name in _fields(section))
    yield from (pa.field(name, kind, nullable=False) for name, kind in COMBINED_COLUMNS.items())


def arm_label(arm: SearchArm) -> str:
    """The data mix in words: `Unknown only`, `+1 HighlyKnown`, `+1 HighlyKnown +2 paraphrases`, `+1 HighlyKnown, KL coefficient 0.5`."""
    counts = ((arm.highly_known, "HighlyKnown"), (arm.maybe_known, "MaybeKnown"))
    parts = [f"+{count} {name}" for count, name in counts if count]
    if arm.paraphrases:
        parts.append(f"+{arm.paraphrases} paraphrase{'s' if arm.paraphrases > 1 else ''}")
    return (" ".join(parts) or "Unknown only") + _replaced(arm)


def _replaced(arm: SearchArm) -> str:
    values = ((name, f"{value:g}" if isinstance(value, float) else str(value)) for name, value in arm.replaced().items())
    return "".join(f", {KNOB_LABELS[name]} {value}" for name, value in values)


KNOB_COLUMNS = tuple(_knob_columns())

KNOB_LABELS = {
    name: field.title or name.replace("_", " ")
    for section in (TrainingConfig, TrialSettings)
    for name, field in section.model_fields.items()
    if name not in ("epochs", "steps", "lora_alpha_per_rank")
} | {"lora_scale": "LoRA scale"}
"""Column of a knob that every trial shares, or that follows from such knobs -> its name; the `title` of the config field, if it has one."""

TRIAL_END = pa.schema(
    [
        pa.field("status", pa.string(), nullable=False),  # completed, stopped, diverged, failed, oom
        pa.field("epochs", pa.int32(), nullable=False),  # epochs actually run
        pa.field("steps", pa.int32(), nullable=False),  # optimiser steps actually taken
        pa.field("unknown_accuracy", pa.float64()),  # after the last epoch
        pa.field("train_loss", pa.float64()),  # of the last epoch
        pa.field("final_learning_rate", pa.float64()),  # of the last optimiser step
        pa.field("exposures", pa.float64()),  # mean number of times that an Unknown fact was trained on, paraphrases included
        pa.field("tokens_per_second", pa.float64()),  # of the optimiser steps, without padding
        pa.field("wall_seconds", pa.float64()),  # not part of any comparison of runs; includes waiting for workers
        pa.field("setup_seconds", pa.float64()),  # of the wall: until the first step could be taken
        pa.field("training_seconds", pa.float64()),  # of the wall: optimiser steps
        pa.field("eval_seconds", pa.float64()),  # of the wall: measuring unknown_accuracy; the rest went to checkpoints and waiting
        pa.field("adapter_digest", pa.string()),  # identity of the adapter's weights; null if there is none
        pa.field("trainable_parameters", pa.int64()),  # of the adapter
        pa.field("cause", pa.string()),  # why it ended
    ]
)
"""How a trial ended: the columns of TRIALS that do not follow from its spec."""

TRIALS = pa.schema([pa.field("trial_id", pa.string(), nullable=False), *KNOB_COLUMNS, *TRIAL_END])
