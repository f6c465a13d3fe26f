"""Which trial, and which mix, the report puts first, and on what evidence.

Whoever picks the best of many and reports it on the facts it was picked by, reports its luck as well. Where a study sets facts apart,
winners are chosen on the dev half and all that is told of them is measured on the test half.

A trial that was stopped early wins nothing and is in no comparison of mixes: it trained for fewer epochs than it was meant to, so it
has harmed less than it would have, and it was stopped for learning badly.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl

from kp.report.labels import free_knobs
from kp.report.summary import summary_of_split
from kp.report.tables import ReportTables
from kp.vocabulary import NOISE, ShiftView, Split, TrialStatus

RELIABLE = 0.8  # the reliability from which a trial's facts count as packed
LEARNED = 0.05  # below this, or below twice its standard error, a trial taught nothing worth the name
FINISHED = pl.col("status") == TrialStatus.COMPLETED.value
STOPPED = pl.col("status") == TrialStatus.STOPPED.value


@dataclass(frozen=True)
class Evidence:
    """The summary thrice: over all facts, over those that winners are chosen by, over those that are told of them.

    All three have the same rows, and are one frame where the study's facts are not split. `noise` has the base's own shifts over the
    facts told of.
    """

    summary: pl.DataFrame
    chosen_by: pl.DataFrame
    report_split: pl.DataFrame
    noise: pl.DataFrame
    dev_facts: int | None = None
    test_facts: int | None = None

    @property
    def split(self) -> bool:
        """Whether winners are chosen by other facts than those that are told of them."""
        return self.dev_facts is not None

    @property
    def facts(self) -> str:
        """What the facts told of are called."""
        return "test facts" if self.split else "facts"


def evidence(tables: ReportTables, summary: pl.DataFrame) -> Evidence:
    """What the tables have to choose winners by."""
    if tables.splits is None or tables.split_shifts is None:
        return Evidence(summary, summary, summary, tables.shifts.filter(pl.col("trial_id") == NOISE))
    facts = {split: tables.splits.filter(pl.col("split") == split).height for split in Split}
    noise = tables.split_shifts.filter((pl.col("trial_id") == NOISE) & (pl.col("split") == Split.TEST))
    dev, test = (summary_of_split(tables, summary, split) for split in (Split.DEV, Split.TEST))
    return Evidence(summary, dev, test, noise.drop("split"), facts[Split.DEV], facts[Split.TEST])


def best_trial(found: Evidence) -> dict[str, Any] | None:
    """The finished trial with the most facts packed at `RELIABLE` or more, as it is told; of equals the one with the least harm."""
    reliable = found.chosen_by.filter(FINISHED & (pl.col("reliability") >= RELIABLE) & ~_nothing_learned())
    ordered = reliable.sort(["facts_packed", "negative_excess", "trial_id"], descending=[True, False, False], nulls_last=True)
    return told(found, ordered["trial_id"][0]) if len(ordered) else None


def told(found: Evidence, trial_id: str) -> dict[str, Any]:
    """A trial's row of the summary that is told."""
    return found.report_split.row(by_predicate=pl.col("trial_id") == trial_id, named=True)


@dataclass(frozen=True)
class MixHarm:
    """One mix over the trials that all mixes have in common: mean negative excess shift, its standard error, mean reliability."""

    arm: str
    harm: float
    error: float | None
    reliability: float | None
    trials: int


def mix_harm(found: Evidence) -> list[MixHarm]:
    """The mixes from the least to the most negative excess shift, each over the knob settings that every mix finished and was measured at.

    Mixes without a finished, measured trial are left out. The order is that of the facts chosen by, the figures are of the facts told of.
    """
    chosen = {mix.arm: mix.harm for mix in _by_mix(found.chosen_by)}
    mixes = [mix for mix in _by_mix(found.report_split) if mix.arm in chosen]
    return sorted(mixes, key=lambda mix: (chosen[mix.arm], mix.arm))


def _by_mix(summary: pl.DataFrame) -> list[MixHarm]:
    """All trials are measured on the same facts against the same noise, so their errors do not average out: a mix's is their mean."""
    measured = summary.filter(FINISHED & pl.col("negative_excess").is_not_null())
    knobs = ["unknown", "rank", "learning_rate", "seed", *free_knobs(summary)]
    arms = measured["arm"].n_unique()
    common = measured.group_by(knobs).agg(pl.col("arm").n_unique().alias("arms")).filter(pl.col("arms") == arms)
    means = (
        measured.join(common, on=knobs, how="semi")
        .group_by("arm", maintain_order=True)
        .agg(
            harm=pl.col("negative_excess").mean(),
            error=pl.when(pl.col("negative_excess_se").null_count() == 0).then(pl.col("negative_excess_se").mean()),
            reliability=pl.col("reliability").mean(),
            trials=pl.len(),
        )
    )
    return [MixHarm(**row) for row in means.iter_rows(named=True)]


def noise_count(found: Evidence) -> tuple[float, int] | None:
    """How many of the facts told of fall to a lower category when the base is asked twice, and how many those facts are."""
    rows = found.noise.filter((pl.col("view") == ShiftView.ALL) & (pl.col("shift") == "negative"))
    return (rows["count"][0], rows["n"][0]) if len(rows) else None


def _nothing_learned() -> pl.Expr:
    low = pl.col("reliability") < LEARNED
    return (low | (pl.col("reliability") < 2 * pl.col("reliability_se"))).fill_null(low)
