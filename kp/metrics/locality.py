"""Locality: what an adapter does to the neighbours of the facts that it was trained on, and to facts that have nothing to do with them.

Every fact that the trial neither trained on nor replayed belongs to one group at most:

| neighbours | facts |
|---|---|
| same_subject | about the subject of a trained fact, of another relation |
| same_relation | of the relation of a trained fact, about another subject |
| same_domain | of neither, but of a relation with the domain of a trained fact's |
| unrelated | of none of these |

A fact whose source names no relation is in a group only by its subject; one without a domain is unrelated if it has neither subject nor
relation of a trained fact. `unchanged` is the share of answers whose text is the base's under the same prompt, `net_change` the share of
right answers minus the base's. An adapter that changes no answer has exactly 1 and 0. The base under other prompts is no reference for
either: it differs in the prompts, which both sides here share.
"""

from enum import StrEnum
from typing import Any

import numpy as np
import polars as pl

from kp.metrics.compared_answers import ComparedAnswers
from kp.metrics.effect_summary import fact_clusters
from kp.metrics.intervals import Estimate, Support, estimate_mean
from kp.metrics.result_schema import LOCALITY
from kp.metrics.shifts import UNTRAINED_ROLES
from kp.vocabulary import UNSPECIFIED


class Neighbours(StrEnum):
    """What a fact shares with the nearest trained one."""

    SAME_SUBJECT = "same_subject"
    SAME_RELATION = "same_relation"
    SAME_DOMAIN = "same_domain"
    UNRELATED = "unrelated"


class LocalityMeasure(StrEnum):
    """What is measured of them."""

    UNCHANGED = "unchanged"
    NET_CHANGE = "net_change"


def locality(compared: ComparedAnswers) -> pl.DataFrame:
    """The LOCALITY of one adapter: two rows for each group that has facts; `n` counts facts."""
    of_facts = _of_facts(compared)
    rows: list[dict[str, Any]] = []
    for group in Neighbours:
        among = of_facts.filter(neighbours=group.value)
        if among.height:
            clusters = fact_clusters(among)
            net = estimate_mean(among["net"].to_numpy(), clusters)
            rows.append(_row(compared, group, LocalityMeasure.UNCHANGED, _complement(among["changed"].to_numpy(), clusters)))
            rows.append(_row(compared, group, LocalityMeasure.NET_CHANGE, net.columns()))
    return pl.DataFrame(rows, schema=pl.DataFrame(pl.from_arrow(LOCALITY.empty_table())).schema)


def neighbours(compared: ComparedAnswers) -> pl.DataFrame:
    """The group of each untrained fact that has one: fact_id, relation, object, neighbours."""
    taught = compared.moves.join(compared.taught, on="fact_id", how="semi")
    known = pl.col("relation") != UNSPECIFIED
    subject, relation, domain = (
        pl.col(name).is_in(taught[name].drop_nulls().unique().to_list()) for name in ("subject", "relation", "domain")
    )
    group = (
        pl.when(subject & ~(known & relation)).then(pl.lit(Neighbours.SAME_SUBJECT.value))
        .when(~known).then(None)
        .when(relation).then(pl.lit(Neighbours.SAME_RELATION.value))
        .when(domain).then(pl.lit(Neighbours.SAME_DOMAIN.value))
        .otherwise(pl.lit(Neighbours.UNRELATED.value))
    )  # fmt: skip
    untrained = compared.moves.filter(pl.col("role").is_in(UNTRAINED_ROLES))
    return untrained.select("fact_id", "relation", "object", group.alias("neighbours")).drop_nulls("neighbours")


def _of_facts(compared: ComparedAnswers) -> pl.DataFrame:
    """`neighbours`, with the share of changed answers and the change of the share of right ones."""
    values = compared.paired.group_by("fact_id").agg(
        (pl.col("text") != pl.col("base_text")).mean().alias("changed"),
        (pl.col("right").cast(pl.Float64) - pl.col("base_right").cast(pl.Float64)).mean().alias("net"),
    )
    return neighbours(compared).join(values, on="fact_id", how="left", maintain_order="left")


def _complement(changed: np.ndarray, clusters: np.ndarray) -> dict[str, Any]:
    """The columns of 1 - the mean: intervals near 1 are those of the few facts that changed."""
    estimate: Estimate = estimate_mean(changed, clusters, support=Support.COUNT)
    found = estimate.columns()
    limits = estimate.limits()
    lower, upper = (None, None) if limits is None else (1 - limits[1], 1 - limits[0])
    return found | {"value": 1 - estimate.value, "lower": lower, "upper": upper}


def _row(compared: ComparedAnswers, group: Neighbours, measure: LocalityMeasure, columns: dict[str, Any]) -> dict[str, Any]:
    kept = {name: columns[name] for name in ("value", "n", "clusters", "standard_error", "lower", "upper")}
    return {"trial_id": compared.trial_id, "neighbours": group.value, "measure": measure.value} | kept
