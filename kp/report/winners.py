"""Which trial the report puts first, and on what evidence.

To pick the best of many and report it on the facts it was picked on is to report its luck as well. So a winner is chosen by its reliability
on S1 and its loss on dev control facts, and told by its reliability on S2 and its loss on test control facts, as far as the study has them.

A trial that was stopped early wins nothing: it trained for fewer epochs than planned, and it was stopped for learning badly.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl

from kp.report.summary import harm_subset
from kp.report.tables import ReportTables
from kp.vocabulary import FactSubset, TrialStatus

RELIABLE = 0.8  # from this reliability on, a trial's facts count as packed
LEARNED = 0.05  # below this, or below twice its standard error, a trial taught nothing
FINISHED = pl.col("status") == TrialStatus.COMPLETED.value
STOPPED = pl.col("status") == TrialStatus.STOPPED.value


@dataclass(frozen=True)
class Evidence:
    """The summary, and the facts on which harm is told."""

    summary: pl.DataFrame
    harm_facts: FactSubset

    @property
    def controls(self) -> bool:
        """Whether the study has control facts."""
        return self.harm_facts is FactSubset.CONTROL

    @property
    def known_facts(self) -> str:
        """What the facts are called whose loss is the harm."""
        return "known control facts" if self.controls else "known facts that it was not trained on"


def evidence(tables: ReportTables, summary: pl.DataFrame) -> Evidence:
    """The evidence for choosing winners, from the tables."""
    return Evidence(summary, harm_subset(tables.effects))


def best_trial(found: Evidence) -> dict[str, Any] | None:
    """The row of the finished trial with the most facts packed at `RELIABLE` or more; if equal, with the least loss on dev facts."""
    reliable = found.summary.filter(FINISHED & (pl.col("reliability") >= RELIABLE) & ~_nothing_learned())
    ordered = reliable.sort(["facts_packed", "dev_loss", "trial_id"], descending=[True, False, False], nulls_last=True)
    return ordered.row(0, named=True) if len(ordered) else None


def _nothing_learned() -> pl.Expr:
    low = pl.col("reliability") < LEARNED
    return (low | (pl.col("reliability") < 2 * pl.col("reliability_se"))).fill_null(low)
