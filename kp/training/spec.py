"""One trial as a value: what is trained, on which mix, and how."""

import itertools
from dataclasses import asdict, dataclass
from typing import Any

from kp.config.search import Arm, init_moves_base
from kp.config.study import StudyConfig
from kp.training.mixtures import Mixture
from kp.vocabulary import LossTokens, Packing, RateSchedule


@dataclass(frozen=True)
class TrialSpec:
    """Every knob of one trial; all of it, and nothing else, is the trial's identity beside its data and its model."""

    mixture: Mixture
    rank: int
    lora_alpha: float
    use_rslora: bool
    lora_dropout: float
    target_modules: tuple[str, ...]
    init: str
    learning_rate: float
    schedule: RateSchedule
    weight_decay: float
    warmup_ratio: float
    max_grad_norm: float
    batch_size: int
    max_epochs: int
    max_steps: int | None  # in place of max_epochs, which is then as many as they take
    max_length: int
    loss: LossTokens
    kl_coefficient: float
    packing: Packing
    zero_stage: int
    stop_at_accuracy: float | None
    stop_patience: int
    eval_prompts: int
    eval_facts: int | None

    @property
    def rows(self) -> int:
        """Training rows an epoch."""
        return self.mixture.rows

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of a whole epoch."""
        return -(-self.rows // self.batch_size)

    @property
    def steps(self) -> int:
        """Optimiser steps of a trial that runs its course."""
        return self.max_steps or self.steps_per_epoch * self.max_epochs

    @property
    def rows_in_all(self) -> int:
        """Training rows of a trial that runs its course, counted as often as they are trained on."""
        whole, rest = divmod(self.steps, self.steps_per_epoch)
        return whole * self.rows + min(rest * self.batch_size, self.rows)

    @property
    def moves_base(self) -> bool:
        """Whether the init puts a part of the base weights into the adapter."""
        return init_moves_base(self.init)

    def literals(self) -> dict[str, Any]:
        """The spec as plain JSON."""
        return {**asdict(self), "target_modules": list(self.target_modules)}

    def label(self) -> str:
        """The trial as a person reads it, in one line."""
        mix = self.mixture
        companions = ((mix.highly_known, "HK"), (mix.maybe_known, "MK"), (mix.paraphrases, "P"))
        extra = "".join(f" + {count} {name}" for count, name in companions if count)
        return f"{mix.unknown} UK{extra}, rank {self.rank}, lr {self.learning_rate:.3g}, seed {mix.seed}"


@dataclass(frozen=True)
class Choice:
    """What a search chooses for a trial; all its other knobs are the study's."""

    unknown: int
    arm: Arm
    rank: int
    learning_rate: float
    seed: int


def grid(config: StudyConfig) -> list[TrialSpec]:
    """Every combination of the search's lists, in the order they are written."""
    search = config.search
    combinations = itertools.product(search.unknown, search.arms, search.rank, search.learning_rate, search.seeds)
    return [trial_spec(config, Choice(*combination)) for combination in combinations]


def trial_spec(config: StudyConfig, choice: Choice) -> TrialSpec:
    """The trial of this choice in this study."""
    search, training = config.search, config.training
    mixture = Mixture(
        unknown=choice.unknown,
        highly_known=choice.arm.highly_known,
        maybe_known=choice.arm.maybe_known,
        paraphrases=choice.arm.paraphrases,
        held_out_paraphrases=search.held_out_paraphrases,
        draw=search.draw,
        replay_target=search.replay_target,
        seed=config.seed + choice.seed,
    )
    steps_per_epoch = -(-mixture.rows // training.batch_size)
    return TrialSpec(
        mixture=mixture,
        rank=choice.rank,
        lora_alpha=training.alpha(choice.rank),
        use_rslora=training.use_rslora,
        lora_dropout=training.lora_dropout,
        target_modules=training.target_modules,
        init=training.init,
        learning_rate=choice.learning_rate,
        schedule=training.schedule,
        weight_decay=training.weight_decay,
        warmup_ratio=training.warmup_ratio,
        max_grad_norm=training.max_grad_norm,
        batch_size=training.batch_size,
        max_epochs=-(-training.steps // steps_per_epoch) if training.steps else training.epochs,
        max_steps=training.steps,
        max_length=training.max_length,
        loss=training.loss,
        kl_coefficient=training.kl_coefficient if mixture.replayed else 0.0,
        packing=training.packing,
        zero_stage=training.zero_stage,
        stop_at_accuracy=search.stop_at_accuracy,
        stop_patience=search.stop_patience,
        eval_prompts=search.eval_prompts,
        eval_facts=search.eval_facts,
    )
