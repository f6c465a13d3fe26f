"""How much an adapter holds of the facts that it packed, in bits.

The gain of a fact is its surprisal under the base minus that under the adapter. Not all of it is the fact: an adapter that has only learned
which answers a relation has, or how long answers are, makes every answer of the relation likelier. That part is the mean gain of Unknown
facts of the same relation that were not trained on, and is taken off:

    M = sum over packed facts i of (gain_i - mean gain of untaught facts of the relation of i)

So an adapter that changes nothing holds exactly 0 bits, and one that has learned a relation's answers but none of its facts holds 0 on
average; both are tested. M is no more than a lower bound of what the weights hold: what they hold of anything else is not counted.

The interval is linearised: with fixed numbers of facts a relation, M is a weighted sum over packed and untaught facts, whose deviations
from their means are added up by cluster (relation and object) and squared; its quantile is Student's, with one degree of freedom fewer
than there are clusters.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import special

from kp.metrics.effect_summary import fact_clusters
from kp.metrics.intervals import CONFIDENCE, Support, estimate_mean
from kp.metrics.result_schema import CAPACITY
from kp.schema import frame
from kp.vocabulary import BASE, Category, Role, ShotSet

_PACKED = (Role.UNKNOWN.value, Role.PARAPHRASE.value)


@dataclass(frozen=True)
class Memorised:
    """M in bits, its 95% interval (None with a single cluster), and what was taken off."""

    bits: float
    limits: tuple[float, float] | None
    untaught_gain: float  # mean over untaught facts, bits
    untaught_facts: int
    stand_ins: int  # packed facts of relations without untaught ones


def capacity_table(
    surprisal: pl.DataFrame,
    outcomes: pl.DataFrame,
    facts: pl.DataFrame,
    parameters: Mapping[str, int],
    training_rows: Mapping[str, pl.DataFrame],
    entropy: float | None = None,
) -> pl.DataFrame:
    """The CAPACITY of every trial in `surprisal` (TRIAL_SURPRISAL, with the base) that packed facts.

    `outcomes` (OUTCOMES) has the base's categories on S0, `facts` (FACTS) relations, `parameters` the size of each trial's adapter,
    `training_rows` (TRAINING_ROWS) what each was taught; `entropy` is that of a fact, where it is known. A trial without an untaught
    Unknown fact is left out: nothing tells its facts from what it learned of relations.
    """
    of_base = surprisal.filter(trial_id=BASE).select("fact_id", base="bits")
    unknown = outcomes.filter(trial_id=BASE, shot_set=ShotSet.S0.value, category=Category.UNKNOWN.value)["fact_id"].implode()
    rows = []
    for (trial_id,), of_trial in surprisal.partition_by("trial_id", maintain_order=True, as_dict=True).items():
        if trial_id == BASE:
            continue
        named = of_trial.join(of_base, on="fact_id", maintain_order="left")
        named = named.join(facts.select("fact_id", "relation", "object"), on="fact_id", maintain_order="left")
        taught = training_rows[trial_id]
        packed = named.join(taught.filter(pl.col("role").is_in(_PACKED)), on="fact_id", how="semi", maintain_order="left")
        untaught = named.filter(pl.col("fact_id").is_in(unknown)).join(taught, on="fact_id", how="anti", maintain_order="left")
        if len(packed) and len(untaught):
            rows.append(_row(trial_id, packed, untaught, parameters[trial_id], entropy))
    return pl.DataFrame(rows, schema=frame(CAPACITY.empty_table()).schema)


def adapter_sizes(trials: pl.DataFrame) -> dict[str, int]:
    """Parameters of each trial's adapter, from TRIALS; only of trials that have one."""
    return dict(trials.drop_nulls("trainable_parameters").select("trial_id", "trainable_parameters").iter_rows())


def memorised(packed: pl.DataFrame, untaught: pl.DataFrame) -> Memorised:
    """M from facts with the columns `base` and `bits` (surprisal under base and adapter), `relation` and `object`; neither is empty."""
    gains, others = (one["base"].to_numpy() - one["bits"].to_numpy() for one in (packed, untaught))
    relations, of_others = packed["relation"].to_numpy(), untaught["relation"].to_numpy()
    overall = float(others.mean())
    weights = np.zeros(len(others))
    taken = np.full(len(gains), overall)
    deviations = others - overall
    stand_ins = 0
    for relation in np.unique(relations):
        here, same = relations == relation, of_others == relation
        if not same.any():
            stand_ins += int(here.sum())
            weights += here.sum() / len(others)
            continue
        taken[here] = others[same].mean()
        weights[same] += here.sum() / same.sum()
        if same.sum() > 1:  # one fact alone would not deviate from its own mean
            deviations[same] = others[same] - others[same].mean()
    own = gains - taken
    parts = np.concatenate([own - own.mean(), -weights * deviations])
    clusters = fact_clusters(pl.concat([one.select("relation", "object") for one in (packed, untaught)]))
    total = float(own.sum())
    return Memorised(total, _limits(total, parts, clusters), overall, len(others), stand_ins)


def _limits(total: float, parts: np.ndarray, clusters: np.ndarray) -> tuple[float, float] | None:
    _, codes = np.unique(clusters, return_inverse=True)
    sums = np.bincount(codes, weights=parts)
    if len(sums) < 2:
        return None
    error = float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)))
    reach = float(special.stdtrit(len(sums) - 1, (1 + CONFIDENCE) / 2)) * error
    return total - reach, total + reach


def _row(trial_id: str, packed: pl.DataFrame, untaught: pl.DataFrame, parameters: int, entropy: float | None) -> dict[str, object]:
    found = memorised(packed, untaught)
    lower, upper = found.limits or (None, None)
    held = float(packed["base"].sum())
    return {
        "trial_id": trial_id,
        "facts": len(packed),
        "parameters": parameters,
        "held_bits": held,
        "memorised_bits": found.bits,
        "lower": lower,
        "upper": upper,
        "per_fact": found.bits / len(packed),
        "per_parameter": found.bits / parameters,
        "load": held / parameters,
        "entropy": entropy,
        "untaught_gain": found.untaught_gain,
        "untaught_facts": found.untaught_facts,
        "stand_ins": found.stand_ins,
        "end_loss": float(packed["end_bits"].to_numpy().mean()),
        **_recall(packed, untaught),
    }


def _recall(packed: pl.DataFrame, untaught: pl.DataFrame) -> dict[str, float | None]:
    """The shares of packed facts, with their interval, and of untaught ones whose answer is the greedy choice."""
    recalled, others = (one["is_greedy"].cast(pl.Float64).to_numpy() for one in (packed, untaught))
    estimate = estimate_mean(recalled, fact_clusters(packed), support=Support.COUNT)
    lower, upper = estimate.limits() or (None, None)
    return {"recall": estimate.value, "recall_lower": lower, "recall_upper": upper, "untaught_recall": float(others.mean())}
