"""One trial of the grid as a value: what is trained, on which mix, and what came of it."""

import itertools
from dataclasses import asdict, dataclass
from typing import Any

from kp.config import StudyConfig
from kp.mixtures import Mixture
from kp.vocabulary import LossTokens


@dataclass(frozen=True)
class TrialSpec:
    """Every knob of one trial; all of it, and nothing else, is the trial's identity beside its data and its model."""

    mixture: Mixture
    rank: int
    lora_alpha: float
    use_rslora: bool
    lora_dropout: float
    target_modules: tuple[str, ...]
    learning_rate: float
    weight_decay: float
    warmup_ratio: float
    max_grad_norm: float
    batch_size: int
    max_epochs: int
    max_length: int
    loss: LossTokens
    zero_stage: int
    stop_at_accuracy: float | None
    stop_patience: int
    probe_prompts: int

    @property
    def rows(self) -> int:
        """Training rows an epoch."""
        return self.mixture.unknown * (1 + self.mixture.highly_known + self.mixture.paraphrases)

    def literals(self) -> dict[str, Any]:
        """The spec as plain JSON."""
        return {**asdict(self), "target_modules": list(self.target_modules)}

    def label(self) -> str:
        """The trial as a person reads it, in one line."""
        mix = self.mixture
        extra = f" + {mix.highly_known} HK" * bool(mix.highly_known) + f" + {mix.paraphrases} P" * bool(mix.paraphrases)
        return f"{mix.unknown} UK{extra}, rank {self.rank}, lr {self.learning_rate:g}, seed {mix.seed}"


def grid(config: StudyConfig) -> list[TrialSpec]:
    """Every combination of the search's lists, in the order they are written."""
    search, training = config.search, config.training
    combinations = itertools.product(search.unknown, search.arms, search.rank, search.learning_rate, search.seeds)
    return [
        TrialSpec(
            mixture=Mixture(unknown, arm.highly_known, arm.paraphrases, search.draw, search.replay_target, config.seed + seed),
            rank=rank,
            lora_alpha=training.alpha(rank),
            use_rslora=training.use_rslora,
            lora_dropout=training.lora_dropout,
            target_modules=training.target_modules,
            learning_rate=learning_rate,
            weight_decay=training.weight_decay,
            warmup_ratio=training.warmup_ratio,
            max_grad_norm=training.max_grad_norm,
            batch_size=training.batch_size,
            max_epochs=training.epochs,
            max_length=training.max_length,
            loss=training.loss,
            zero_stage=training.zero_stage,
            stop_at_accuracy=search.stop_at_accuracy,
            stop_patience=search.stop_patience,
            probe_prompts=search.probe_prompts,
        )
        for unknown, arm, rank, learning_rate, seed in combinations
    ]
