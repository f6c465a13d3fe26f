"""The labels of trials: the data mix in words, and the knobs that distinguish the trial from the others.

Labels appear in tables, on axes and next to markers, so they are short and name a knob only if trials differ in it.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

from kp.report.notation import learning_rate, setting
from kp.training.spec import KNOB_LABELS
from kp.vocabulary import TrialStatus

KNOBS = KNOB_LABELS
"""Column of TRIALS -> its name; the knobs other than N, mix, rank, learning rate and seed, which have their own places."""

SHORT = {"Unknown only": "UK only", "HighlyKnown": "HK", "MaybeKnown": "MK", "paraphrases": "P", "paraphrase": "P"}
STOPPED_MARK = "†"


def varied_knobs(trials: pl.DataFrame) -> list[str]:
    """The columns of `KNOBS` in which the trials differ."""
    return [name for name in KNOBS if trials[name].n_unique() > 1]


def free_knobs(trials: pl.DataFrame) -> list[str]:
    """The `varied_knobs` that differ within one mix and rank: not an alpha that follows the rank, nor a KL that only replay has."""
    groups = trials.group_by("arm", "rank")
    most = groups.agg(pl.col(name).n_unique() for name in KNOBS).select(pl.col(name).max() for name in KNOBS)
    return [name for name in varied_knobs(trials) if most[name][0] > 1]


def knob_value(value: object) -> str:
    """A knob's value as written in a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return setting(value) if isinstance(value, float) else str(value)


def trial_labels(trials: pl.DataFrame) -> list[str]:
    """A short unique label for each trial, such as `N=40 · +1 HK r=16 lr=0.003`; that of a stopped trial ends in a dagger."""
    rows = list(trials.iter_rows(named=True))
    varied = [(key, name) for key, name in (("r", "rank"), ("lr", "learning_rate"), ("seed", "seed")) if trials[name].n_unique() > 1]
    varied += [(KNOBS[name], name) for name in free_knobs(trials)]
    labels = [_label(row, varied) for row in rows]
    return [
        (label if labels.count(label) == 1 else f"{label} {row['trial_id']}") + marked(row["status"])
        for label, row in zip(labels, rows, strict=True)
    ]


def marked(status: str) -> str:
    """The mark after the name of a trial with this status: a space and a dagger, or nothing."""
    return f" {STOPPED_MARK}" if status == TrialStatus.STOPPED else ""


def dagger_note(summary: pl.DataFrame) -> str:
    """What the mark means, for a caption; empty if no trial was stopped."""
    stopped = (summary["status"] == TrialStatus.STOPPED.value).any()
    return f" {STOPPED_MARK} was stopped early: its harm is not that of a finished trial." if stopped else ""


def _label(row: Mapping[str, Any], varied: list[tuple[str, str]]) -> str:
    knobs = "".join(f" {key}={learning_rate(row[name]) if name == 'learning_rate' else knob_value(row[name])}" for key, name in varied)
    return f"N={row['unknown']} · {_short(row['arm'])}{knobs}"


def _short(arm: str) -> str:
    for word, short in SHORT.items():
        arm = arm.replace(word, short)
    return arm
