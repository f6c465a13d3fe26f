"""Which trial and which mix the report puts first, and on what evidence.

To pick the best of many and report it on the facts it was picked on is to report its luck as well. If a study splits its facts, winners are
chosen on the dev split, and everything reported about them is measured on the test split.

A trial that was stopped early wins nothing and is in no comparison of mixes: it trained for fewer epochs than planned, so it did less harm
than it would have done, and it was stopped for learning badly.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl

from kp.report.labels import free_knobs
from kp.report.summary import summary_of_split
from kp.report.tables import ReportTables
from kp.vocabulary import NOISE, Split, TrialStatus

RELIABLE = 0.8  # from this reliability on, a trial's facts count as packed
LEARNED = 0.05  # below this, or below twice its standard error, a trial taught nothing
FINISHED = pl.col("status") == TrialStatus.COMPLETED.value
STOPPED = pl.col("status") == TrialStatus.STOPPED.value


@dataclass(frozen=True)
class Evidence:
    """The summary over all facts, over the facts that winners are chosen on, and over the facts that they are reported on.

    All three have the same rows, and are one frame if the study's facts are not split. `noise` has the base's own shifts over the reported
    facts.
    """

    summary: pl.DataFrame
    chosen_by: pl.DataFrame
    report_split: pl.DataFrame
    noise: pl.DataFrame
    dev_facts: int | None = None
    test_facts: int | None = None

    @property
    def split(self) -> bool:
        """Whether winners are chosen and reported on different facts."""
        return self.dev_facts is not None

    @property
    def facts(self) -> str:
        """What the reported facts are called."""
        return "test facts" if self.split else "facts"


def evidence(tables: ReportTables, summary: pl.DataFrame) -> Evidence:
    """The evidence for choosing winners, from the tables."""
    if tables.splits is None or tables.split_shifts is None:
        return Evidence(summary, summary, summary, tables.shifts.filter(pl.col("trial_id") == NOISE))
    facts = {split: tables.splits.filter(pl.col("split") == split).height for split in Split}
    noise = tables.split_shifts.filter((pl.col("trial_id") == NOISE) & (pl.col("split") == Split.TEST))
    dev, test = (summary_of_split(tables, summary, split) for split in (Split.DEV, Split.TEST))
    return Evidence(summary, dev, test, noise.drop("split"), facts[Split.DEV], facts[Split.TEST])


def best_trial(found: Evidence) -> dict[str, Any] | None:
    """The reported row of the finished trial with the most facts packed at `RELIABLE` or more; if equal, with the least harm."""
    reliable = found.chosen_by.filter(FINISHED & (pl.col("reliability") >= RELIABLE) & ~_nothing_learned())
    ordered = reliable.sort(["facts_packed", "knowledge_loss", "trial_id"], descending=[True, False, False], nulls_last=True)
    return reported(found, ordered["trial_id"][0]) if len(ordered) else None


def reported(found: Evidence, trial_id: str) -> dict[str, Any]:
    """A trial's row of the reported summary."""
    return found.report_split.row(by_predicate=pl.col("trial_id") == trial_id, named=True)


@dataclass(frozen=True)
class MixHarm:
    """One mix over the settings that all mixes share: mean loss of knowledge, its standard error, mean reliability."""

    arm: str
    harm: float
    error: float | None
    reliability: float | None
    trials: int


def mix_harm(found: Evidence) -> list[MixHarm]:
    """The mixes by rising loss of knowledge, over the knob settings at which every mix has a finished, measured trial.

    Mixes without any such trial are left out. The loss is that of facts which a trial did not train on, so no half of the facts is set
    apart for it.
    """
    return sorted(_by_mix(found.summary), key=lambda mix: (mix.harm, mix.arm))


def _by_mix(summary: pl.DataFrame) -> list[MixHarm]:
    """All trials are measured on the same facts and noise, so their errors do not average out: a mix's error is their mean."""
    measured = summary.filter(FINISHED & pl.col("knowledge_loss").is_not_null())
    knobs = ["unknown", "rank", "learning_rate", "seed", *free_knobs(summary)]
    arms = measured["arm"].n_unique()
    common = measured.group_by(knobs).agg(pl.col("arm").n_unique().alias("arms")).filter(pl.col("arms") == arms)
    means = (
        measured.join(common, on=knobs, how="semi")
        .group_by("arm", maintain_order=True)
        .agg(
            harm=pl.col("knowledge_loss").mean(),
            error=pl.when(pl.col("knowledge_loss_se").null_count() == 0).then(pl.col("knowledge_loss_se").mean()),
            reliability=pl.col("reliability").mean(),
            trials=pl.len(),
        )
    )
    return [MixHarm(**row) for row in means.iter_rows(named=True)]


def _nothing_learned() -> pl.Expr:
    low = pl.col("reliability") < LEARNED
    return (low | (pl.col("reliability") < 2 * pl.col("reliability_se"))).fill_null(low)
