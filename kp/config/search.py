"""The sections `search` and `training` of a study file: which trials there are, and what one of them does."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from kp.config.faults import FieldError
from kp.config.layers import ALL_LAYERS, Layers
from kp.config.section import PositiveInt, Section
from kp.vocabulary import Draw, EvalMode, LossTokens, Packing, RateSchedule, ReplayShortfall, ReplayTarget, Sampler, Scheduler

INITS = ("default", "gaussian", "orthogonal", "olora", "pissa")
"""PEFT's initialisations that need neither data nor a quantised base; also `pissa_niter_N`."""

MOST_RANK = 16384  # no matrix of a published model has more independent rows, so an adapter's further ranks would have no effect
Rank = Annotated[int, Field(gt=0, le=MOST_RANK)]


def init_moves_base(init: str) -> bool:
    """Whether this init moves a part of the base weights into the adapter."""
    return init.startswith(("pissa", "olora"))


class Arm(Section):
    """One data mix: what the training data contains in addition to each Unknown fact."""

    highly_known: int = Field(0, ge=0)
    """HighlyKnown facts per Unknown fact."""
    maybe_known: int = Field(0, ge=0)
    """MaybeKnown facts per Unknown fact."""
    paraphrases: int = Field(0, ge=0, le=10)
    """Paraphrased questions per Unknown fact."""

    def counts(self) -> "Arm":
        """The counts alone."""
        return Arm(highly_known=self.highly_known, maybe_known=self.maybe_known, paraphrases=self.paraphrases)


class SearchArm(Arm):
    """A data mix, and what its trials do differently from the others: each further field replaces the knob of the same name."""

    replay_target: ReplayTarget | None = None
    """Instead of `search.replay_target`."""
    kl_coefficient: float | None = Field(None, ge=0)
    """Instead of `training.kl_coefficient`."""
    weight_decay: float | None = Field(None, ge=0)
    """Instead of `training.weight_decay`."""
    lora_dropout: float | None = Field(None, ge=0, lt=1)
    """Instead of `training.lora_dropout`."""

    @model_validator(mode="after")
    def _replays(self) -> Self:
        for name in ("replay_target", "kl_coefficient"):
            if getattr(self, name) is not None and not (self.highly_known or self.maybe_known):
                raise FieldError("this arm replays no facts that the base knows", field=name)
        return self

    def replaced(self) -> dict[str, Any]:
        """The knobs that this arm sets, by name."""
        own = {name: getattr(self, name) for name in self.knobs()}
        return {name: value for name, value in own.items() if value is not None}

    @classmethod
    def knobs(cls) -> tuple[str, ...]:
        """The knobs that an arm can set."""
        return tuple(name for name in cls.model_fields if name not in Arm.model_fields)


class TrialSettings(Section):
    """The part of `[search]` that all trials share, in addition to `[training]`: each field is a knob of the trial."""

    draw: Draw = Draw.STRATIFIED
    """How facts are drawn from their pools."""
    replay_target: ReplayTarget = ReplayTarget.SELF
    """What HighlyKnown and MaybeKnown rows teach."""
    scheduler: Scheduler = Scheduler.NONE
    """`asha` stops the weaker trials at its rungs, judged by unknown_accuracy."""
    grace_epochs: PositiveInt = 3
    """Epochs that `asha` lets every trial run: its first rung."""
    reduction_factor: int = Field(4, ge=2)
    """At each rung `asha` lets one in this many trials continue; the next rung is at this many times the epochs."""
    stop_at_accuracy: float | None = Field(None, gt=0, le=1)
    """A trial ends, or anneals and then ends, once its unknown_accuracy has been at least this for `stop_patience` epochs in a row. Absent:
    never."""
    stop_patience: PositiveInt = 2
    """See `stop_at_accuracy`."""
    anneal_epochs: int = Field(0, ge=0)
    """Epochs that a trial continues after it has reached `stop_at_accuracy`, so that it does not end at a high learning rate: from what it
    was then, its rate falls linearly to 0 at their last step. What the trial measures in these epochs changes nothing. It never trains
    longer than `epochs` or `steps`, nor at a higher rate than `schedule` has: if fewer steps are left, the rate falls to 0 over those."""
    eval_prompts: int = Field(1, ge=1, le=10)
    """Prompts of S0 on which unknown_accuracy is measured after every epoch."""
    eval_mode: EvalMode = EvalMode.GENERATE
    """How unknown_accuracy is measured after an epoch. `teacher_forced` reads questions with their canonical answers in one pass, at a
    fraction of the cost, and counts those that the model would write token by token: a lower bound, because it may write an alias. Before a
    trial ends as learned, answers are generated."""
    eval_facts: PositiveInt | None = None
    """Most trained Unknown facts that are asked after an epoch, the same ones every time. Absent: all of them."""

    @model_validator(mode="after")
    def _annealed(self) -> Self:
        if self.anneal_epochs and self.stop_at_accuracy is None:
            raise FieldError("only with stop_at_accuracy", field="anneal_epochs")
        return self

    def in_effect(self) -> "TrialSettings":
        """These settings, with those without effect set to their defaults: those of `asha` without it, and a patience without target."""
        idle: list[str] = []
        if self.scheduler is Scheduler.NONE:
            idle += ["grace_epochs", "reduction_factor"]
        if self.stop_at_accuracy is None:
            idle += ["stop_patience"]
        fields = TrialSettings.model_fields
        return TrialSettings(**{name: fields[name].default if name in idle else getattr(self, name) for name in fields})


class SearchConfig(TrialSettings):
    """The trials: every combination of the lists below, or `trials` of them."""

    unknown: tuple[PositiveInt, ...] = (10, 40)
    """N, the number of Unknown facts that a trial packs."""
    arms: tuple[SearchArm, ...] = (SearchArm(),)
    """Data mixes; an arm can also set a few knobs of its own, such as `{ highly_known = 1, kl_coefficient = 0.5 }`."""
    rank: tuple[Rank, ...] = (8,)
    """LoRA ranks."""
    learning_rate: tuple[float, ...] = (5e-3,)
    """Peak learning rates."""
    learning_rate_range: tuple[float, float] | None = None
    """Lowest and highest peak learning rate, log-uniform, instead of the list; only with `random` and `optuna`."""
    layers: tuple[Layers, ...] = ()
    """Which decoder layers adapters change, each like `training.layers`. Empty: `training.layers` alone."""
    seeds: tuple[int, ...] = (0,)
    """Each seed has its own draw of facts, LoRA init, dropout and data order."""
    sampler: Sampler = Sampler.GRID
    """`grid` runs every combination; `random` and `optuna` run `trials` of them. `stepwise` tries all rates with the first mix and rank,
    then the other mixes at the first rate that learned, then the other ranks with the last mix that learned: write the gentlest rate first
    and the mix that protects most last. Learned means `stop_at_accuracy`."""
    trials: PositiveInt | None = None
    """Number of trials of every sampler but `grid`; a larger number adds trials to the existing ones."""
    optuna_batch: PositiveInt = 4
    """Trials that `optuna` proposes at a time, from the results of all earlier ones: a study proposes the same ones after a kill."""
    replay_source: str | None = None
    """The source of HighlyKnown and MaybeKnown facts, written like `facts.source` (no dump). Absent: the studied facts."""
    replay_count: PositiveInt | None = None
    """Number of facts of `replay_source` that the base is asked, drawn as by `facts.count`. Absent: all of them."""
    replay_shortfall: ReplayShortfall = ReplayShortfall.REFUSE
    """What happens if the base knows fewer facts than a mix replays: `refuse`, an error, or `use_all`, those that there are."""

    @model_validator(mode="after")
    def _no_repeats(self) -> Self:
        for name in ("unknown", "arms", "rank", "learning_rate", "layers", "seeds"):
            values = getattr(self, name)
            if not values and name != "layers":
                raise FieldError("must not be empty", field=name)
            if len(set(values)) != len(values):
                raise FieldError("a value stands in it twice", field=name)
        if any(rate <= 0 for rate in self.learning_rate):
            raise FieldError("must be above 0", field="learning_rate")
        return self

    @model_validator(mode="after")
    def _sampled(self) -> Self:
        if self.sampler is Sampler.GRID:
            for name in ("trials", "learning_rate_range"):
                if getattr(self, name) is not None:
                    raise FieldError("only with sampler 'random' or 'optuna'", field=name)
        elif self.trials is None:
            raise FieldError(f"sampler '{self.sampler}' needs to be told how many", field="trials")
        if self.sampler is Sampler.STEPWISE:
            self._stepwise()
        if self.learning_rate_range and not 0 < self.learning_rate_range[0] < self.learning_rate_range[1]:
            raise FieldError("give the lowest rate, above 0, then the highest", field="learning_rate_range")
        return self

    def _stepwise(self) -> None:
        if self.learning_rate_range:
            raise FieldError("only with sampler 'random' or 'optuna'; list the rates, the gentlest first", field="learning_rate_range")
        if self.stop_at_accuracy is None:
            raise FieldError("sampler 'stepwise' needs to be told what counts as learned", field="stop_at_accuracy")
        for name in ("unknown", "layers"):
            if len(getattr(self, name)) > 1:
                raise FieldError("sampler 'stepwise' takes one value of it", field=name)

    @model_validator(mode="after")
    def _replayed(self) -> Self:
        if self.replay_count is not None and self.replay_source is None:
            raise FieldError("only with replay_source", field="replay_count")
        if self.replay_source and not any(arm.highly_known or arm.maybe_known for arm in self.arms):
            raise FieldError("no arm has highly_known or maybe_known facts", field="replay_source")
        if self.replay_source == "synthetic" and self.replay_count is None:
            raise FieldError("replay_source 'synthetic' needs to be told how many facts are made", field="replay_count")
        return self


class TrainingConfig(Section):
    """The knobs that all trials share."""

    epochs: PositiveInt = 10
    """Maximum number of passes over the training rows."""
    steps: PositiveInt | None = None
    """Maximum number of optimiser steps, instead of `epochs`: then arms with more rows train as long as those with fewer."""
    batch_size: PositiveInt = Field(8, title="batch")
    """Rows in one optimiser step, over all workers."""
    lora_alpha: float | None = Field(None, gt=0, title="alpha")
    """LoRA's alpha, the same at every rank; give this or `lora_alpha_per_rank`."""
    lora_alpha_per_rank: float | None = Field(None, gt=0)
    """LoRA's alpha as a multiple of the rank."""
    use_rslora: bool = Field(False, title="rsLoRA")
    """Scale by alpha/sqrt(rank) instead of alpha/rank."""
    lora_dropout: float = Field(0.1, ge=0, lt=1, title="dropout")
    """Share of an adapter's inputs that are set to 0 in each training step."""
    target_modules: tuple[str, ...] = Field(("down_proj", "gate_proj", "up_proj"), title="modules")
    """The matrices that the adapter changes, by the ends of their names, or groups of them: `attention`, `mlp`, `all-linear`."""
    layers: Layers = ALL_LAYERS
    """The decoder layers that the adapter changes: `all`, `upper:K` for the last K, or a list of numbers from 0 up. What lies below the
    first of them is computed once and kept."""
    init: str = "default"
    """How PEFT initialises A and B: `default`, `gaussian`, `orthogonal`, `olora`, `pissa` or `pissa_niter_N`; an init that changes the base
    weights (olora, pissa) is saved as a plain adapter of twice the rank."""
    schedule: RateSchedule = RateSchedule.LINEAR
    """The learning rate after warm-up: `linear` and `cosine` decay to 0 at the last step, `constant` stays."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decay of the adapter's weights: each step takes this share of them, times the learning rate, away."""
    warmup_ratio: float = Field(0.0, ge=0, lt=1, title="warm-up")
    """Share of the steps over which the learning rate rises."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Largest norm of a step's gradient; a larger one is scaled down to it."""
    max_length: PositiveInt = 768
    """A training row with more tokens is an error; rows are never truncated."""
    loss: LossTokens = Field(LossTokens.ANSWER, title="loss on")
    """Tokens that are trained: `answer`, those of the target and its end, or `full_text`, all of the row."""
    kl_coefficient: float = Field(0.0, ge=0, title="KL coefficient")
    """Weight of KL(base || adapter), the mean over a batch's trained tokens of HighlyKnown and MaybeKnown rows; it is added to the cross
    entropy, the mean over all trained tokens of the batch."""
    packing: Packing = Packing.PREFIX_TREE
    """`prefix_tree` reads tokens that rows of a batch share once, with the same loss and gradient, but one dropout mask per shared token.
    `padded` reads every row whole, as other trainers do."""
    zero_stage: Literal[0, 1, 2, 3] = Field(2, title="ZeRO stage")
    """DeepSpeed ZeRO stage."""

    @model_validator(mode="after")
    def _one_alpha(self) -> Self:
        if (self.lora_alpha is None) == (self.lora_alpha_per_rank is None):
            raise FieldError("give either lora_alpha or lora_alpha_per_rank", field="lora_alpha")
        if not self.target_modules:
            raise FieldError("must not be empty", field="target_modules")
        if "steps" in self.model_fields_set and "epochs" in self.model_fields_set and self.steps is not None:
            raise FieldError("give either epochs or steps", field="steps")
        return self

    @model_validator(mode="after")
    def _init_known(self) -> Self:
        if self.init not in INITS and not re.fullmatch(r"pissa_niter_\d+", self.init):
            raise FieldError(f"'{self.init}' is none of {', '.join(INITS)}, pissa_niter_N", field="init")
        if self.kl_coefficient and self.moves_base:
            raise FieldError(
                f"not with init '{self.init}', under which the model without its adapter is not the base", field="kl_coefficient"
            )
        if self.zero_stage == 3 and self.moves_base:
            raise FieldError(f"'{self.init}' takes the base's weights apart, which ZeRO stage 3 has spread over the workers", field="init")
        return self

    @property
    def moves_base(self) -> bool:
        """Whether the init moves a part of the base weights into the adapter."""
        return init_moves_base(self.init)

    def alpha(self, rank: int) -> float:
        """LoRA's alpha at this rank."""
        return self.lora_alpha if self.lora_alpha is not None else float(self.lora_alpha_per_rank or 0) * rank
