"""What a worker gets of a trial, and the trial's progress."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from kp.prompts import Shot
from kp.training.spec import TrialSpec
from kp.vocabulary import Activity, Matcher, TrialStatus

if TYPE_CHECKING:
    from kp.inference.answering import EngineSpec

PROGRESS = "progress.json"
ADAPTER = "adapter"

Epoch = dict[str, Any]  # an EPOCHS row without its trial_id


@dataclass(frozen=True)
class TrialJob:
    """What a worker gets: the spec, its training rows, and the facts and prompts on which unknown_accuracy is measured."""

    trial_id: str
    spec: TrialSpec
    engine: "EngineSpec"
    rows: pa.Table  # TRAINING_ROWS
    eval_facts: pa.Table  # FACTS, trained Unknown ones
    eval_shots: tuple[tuple[Shot, ...], ...]  # one tuple of shots per prompt
    matcher: Matcher
    all_facts: pa.Table  # `relation` and `answers` of the study's facts: the objects that an answer may name


@dataclass
class Progress:
    """A trial's progress; saved with every checkpoint."""

    epochs: list[Epoch] = field(default_factory=list)
    status: TrialStatus | None = None  # None while it runs
    cause: str | None = None
    trainable_parameters: int = 0
    setup_seconds: float = 0.0  # of all processes that have worked on it
    hardware: list[dict[str, Any]] = field(default_factory=list)  # of these processes, as kp.store.hardware.distinct_hardware
    spans: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """When its first worker was at what (by Activity): began and ended, in seconds since 1970."""
    fact_correct: dict[str, list[int]] = field(default_factory=dict)
    """By epoch, how many right answers each of the trial's eval facts got, in their order; an epoch of a checkpoint older than this, or
    with a loss that is not finite, is not in it."""

    def save(self, folder: Path) -> None:
        """Write it into a checkpoint."""
        (folder / PROGRESS).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Progress":
        """Read it from a checkpoint."""
        found = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        found["status"] = TrialStatus(found["status"]) if found["status"] else None
        return cls(**found)

    def note(self, activity: Activity, began: float) -> None:
        """Its worker was at it since then and until now."""
        self.spans.setdefault(activity.value, []).append((began, time.time()))

    @property
    def steps(self) -> int:
        """Optimiser steps taken."""
        return sum(epoch["steps"] for epoch in self.epochs)
