"""What an adapter learned and what it lost, fact by fact."""

import polars as pl
import pyarrow as pa

from kp.metrics.effects import ROLES
from kp.schema import frame
from kp.vocabulary import BASE, FactRole, FactSubset, ShotSet

LEARNED = pa.schema(
    [
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),  # taught, already known, left out
        pa.field("base", pa.float64()),  # share of right answers on S1 and S2; null if it was only asked on S0
        pa.field("adapter", pa.float64()),  # the same with the adapter; null if it was not taught
    ]
)
LOST = pa.schema(
    [
        pa.field("fact_id", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),  # control_dev, which had a part in the choice, or control_test
        pa.field("base", pa.float64(), nullable=False),
        pa.field("adapter", pa.float64(), nullable=False),
        pa.field("change", pa.float64(), nullable=False),  # below 0: lost
    ]
)
MEASURED = [ShotSet.S1.value, ShotSet.S2.value]


def learned_table(outcomes: pl.DataFrame, trial_id: str, facts: pl.DataFrame, already_known: pl.DataFrame) -> pl.DataFrame:
    """LEARNED from OUTCOMES of the base and of an adapter: the facts that it was taught, worst first, then those already known."""
    shares = _shares(outcomes, trial_id).filter(role=FactRole.TRAINED.value)
    taught = facts.join(shares, on="fact_id").with_columns(state=pl.lit("taught")).sort("adapter", "fact_id")
    known = already_known.with_columns(state=pl.lit("already known"), base=pl.lit(None, pl.Float64), adapter=pl.lit(None, pl.Float64))
    both = [table.with_columns(answer=pl.col("answers").list.first()).select(LEARNED.names) for table in (taught, known)]
    return frame(pl.concat(both).to_arrow().cast(LEARNED))


def lost_table(outcomes: pl.DataFrame, trial_id: str, facts: pl.DataFrame) -> pl.DataFrame:
    """LOST from OUTCOMES of the base and of an adapter: every control fact, what lost most first."""
    controls = [role.value for role in ROLES[FactSubset.CONTROL]]
    shares = _shares(outcomes, trial_id).filter(pl.col("role").is_in(controls))
    joined = facts.join(shares, on="fact_id").with_columns(
        answer=pl.col("answers").list.first(), part=pl.col("role"), change=pl.col("adapter") - pl.col("base")
    )
    return frame(joined.select(LOST.names).sort("change", "fact_id").to_arrow().cast(LOST))


def _shares(outcomes: pl.DataFrame, trial_id: str) -> pl.DataFrame:
    """The shares of right answers of base and adapter by fact, over the shot sets of the adapter, and the fact's role in its trial."""
    adapter = outcomes.filter((pl.col("trial_id") == trial_id) & pl.col("shot_set").is_in(MEASURED))
    base = outcomes.filter(trial_id=BASE).join(adapter.select("fact_id", "shot_set"), on=["fact_id", "shot_set"], how="semi")
    share = pl.col("correct").sum() / pl.col("asked").sum()
    of_adapter = adapter.group_by("fact_id").agg(share.alias("adapter"), pl.col("role").first())
    return of_adapter.join(base.group_by("fact_id").agg(share.alias("base")), on="fact_id")
