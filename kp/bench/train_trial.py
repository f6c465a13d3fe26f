"""What the implementations of `kp bench train` get and report: one trial, as a search would give it to a worker.

Whether the model already knows the facts is not measured: a step costs the same whatever it teaches.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import ValidationError

from kp.bench.options import TrainOptions
from kp.bench.train_limits import ForwardRates
from kp.config.search import SearchArm
from kp.config.study import ModelConfig, StudyConfig
from kp.errors import UserError
from kp.facts.builtin import load_builtin
from kp.inference.answering import EngineSpec
from kp.prompts import builtin_prompts
from kp.schema import FACTS
from kp.study.machine_choices import with_machine_choices
from kp.training.job import TrialJob
from kp.training.mixtures import draw_rows
from kp.training.spec import Choice, trial_spec
from kp.vocabulary import Attention, Category, Role, ShotSet


class Trainer(StrEnum):
    """The implementations that take part."""

    KP = "kp"
    RELEASED = "released"
    GROUPED = "grouped"  # released, with group_by_length, which changes the order of rows
    ALL_LAYERS = "all layers"  # released, of an adapter of all layers; only if the others train one of fewer


@dataclass(frozen=True)
class TrainStart:
    """How an implementation starts."""

    digest: str  # of its LoRA weights before the first step
    parameters: int  # of the base model
    revision: str  # of the base model
    device: str  # its name


@dataclass(frozen=True)
class TrainEpoch:
    """One turn; its seconds are those of optimiser steps, including making batches and reading losses, and nothing else."""

    seconds: float
    rows: int
    tokens: int  # of the rows
    read_tokens: int  # read by the model: padding is counted, and shared tokens once if they are read once
    step_losses: tuple[float, ...]  # mean over the trained tokens of each step's batch

    @property
    def loss(self) -> float:
        """The mean over the steps, from which all implementations compute it."""
        return float(np.mean(self.step_losses))


@dataclass(frozen=True)
class Kept:
    """What kp keeps of the layers below the first adapted one."""

    first: int  # the first adapted layer
    tokens: int
    bytes: int
    seconds: float  # in which these layers read the rows; they count as seconds of the first epoch


@dataclass(frozen=True)
class KpTrial:
    """How kp's trial spent its time, in seconds, without the waiting for turns."""

    load: float = 0.0  # of the base model, once per worker and not part of `wall`
    wall: float = 0.0
    setup: float = 0.0
    training: float = 0.0
    evals: float = 0.0
    checkpoints: float = 0.0
    laps: Mapping[str, float] = field(default_factory=dict)  # of `training`, by part of a step
    forward: ForwardRates = field(default_factory=ForwardRates)  # measured after every epoch
    kept: Kept | None = None
    peak_device_memory: int | None = None  # bytes, of a GPU


@dataclass(frozen=True)
class ReleasedTrial:
    """What the released way reports at the end."""

    peak_device_memory: int | None  # bytes, of a GPU


def trial_job(options: TrainOptions, use_gpu: bool) -> TrialJob:
    """The trial; raises UserError naming the option where the built-in facts are too few."""
    facts = pl.DataFrame(load_builtin())
    if options.facts > facts.height:
        raise UserError(f"{options.facts} are asked for, the built-in facts are {facts.height}", field="facts")
    config = with_machine_choices(_study(options, use_gpu), Path(os.devnull), lambda line: None, fetch=True)
    arm = SearchArm(paraphrases=options.paraphrases)
    spec = trial_spec(config, Choice(options.facts, arm, options.rank, options.learning_rate, options.seed, config.training.layers))
    unknown = facts.select("fact_id", pl.lit(Category.UNKNOWN.value).alias("category"))
    rows = draw_rows(spec, facts, unknown, answers=pl.DataFrame())
    taught = rows.filter(role=Role.UNKNOWN.value)["fact_id"]
    settings, batch, threads = config.categorise, config.resources.generation_batch, options.cpu_threads
    shots = builtin_prompts(ShotSet.S0)[: spec.settings.eval_prompts]
    return TrialJob(
        trial_id="bench",
        spec=spec,
        engine=EngineSpec(
            config.model,
            settings.max_new_tokens,
            settings.stop_at_newline,
            batch,
            threads,
            use_gpu,
            attention=config.resources.attention,
            model_field="model",
        ),
        rows=rows.to_arrow(),
        eval_facts=facts.filter(pl.col("fact_id").is_in(taught.implode())).to_arrow().cast(FACTS),
        eval_shots=tuple(tuple(prompt) for prompt in shots),
        matcher=settings.matcher,
        all_facts=facts.select("relation", "answers").to_arrow(),
    )


def _study(options: TrainOptions, use_gpu: bool) -> StudyConfig:
    """The released script's training, except for what the options change."""
    try:
        return _validated(options, use_gpu)
    except ValidationError as error:  # the options have checked everything else
        raise UserError(f"'{options.layers}': {error.errors()[0]['msg']}", field="layers") from None


def _validated(options: TrainOptions, use_gpu: bool) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "name": "bench",
            "model": ModelConfig(name=options.model, dtype=options.dtype.value),
            # Attention is timed with the shapes of a model's files, and a base of random weights has none.
            "resources": {"gpu": use_gpu} | ({} if options.shape is None else {"attention": Attention.SDPA}),
            "training": {
                "epochs": options.epochs,
                "batch_size": options.batch_size,
                "lora_alpha_per_rank": 2,
                "use_rslora": True,
                "lora_dropout": options.dropout,
                "loss": options.loss,
                "packing": options.packing,
                "layers": options.layers,
            },
        }
    )
