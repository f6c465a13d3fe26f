"""How far adapters drift from the base on texts: divergence and perplexity a token, with intervals.

The tokens of one text depend on each other, so a text is a cluster: intervals say what other passages of the same registers would show.
KL(base || adapter) is 0 only for an adapter that changes no expectation, and it is 0 exactly then. It says that a model has changed, not
that it has become worse: that is what the ratio of perplexities says, which can be below 1.
"""

import math
from collections.abc import Iterator

import polars as pl

from kp.metrics.intervals import Estimate, estimate_ratio
from kp.metrics.result_schema import DRIFT_SUMMARY

NEUTRAL = "neutral"
"""All registers of neutral text together."""
QUESTIONS = "questions"
"""The register of the study's own questions."""

_Row = dict[str, str | float | int | None]


def drift_summary(drift: pl.DataFrame) -> pl.DataFrame:
    """The DRIFT_SUMMARY of DRIFT: of all neutral text together, of the questions, and of each register, in this order."""
    rows: list[_Row] = []
    for (trial_id, scale), of_adapter in drift.sort("trial_id", "scale", "text").group_by("trial_id", "scale", maintain_order=True):
        rows += [{"trial_id": str(trial_id), "scale": float(str(scale)), **row} for row in _of_adapter(of_adapter)]
    return pl.DataFrame(rows, schema=pl.DataFrame(pl.from_arrow(DRIFT_SUMMARY.empty_table())).schema)


def registers_of(drift: pl.DataFrame) -> list[str]:
    """The registers of neutral text in DRIFT or its summary, sorted."""
    return [name for name in drift["register"].unique().sort() if name not in (NEUTRAL, QUESTIONS)]


def _of_adapter(drift: pl.DataFrame) -> Iterator[_Row]:
    groups = {NEUTRAL: drift.filter(pl.col("register") != QUESTIONS), QUESTIONS: drift.filter(register=QUESTIONS)}
    groups |= {name: drift.filter(register=name) for name in registers_of(drift)}
    for name, texts in groups.items():
        read = texts.filter(pl.col("tokens") > 0)
        if len(read):
            yield {"register": name, "texts": len(read), "tokens": int(read["tokens"].sum()), **_figures(read)}


def _figures(texts: pl.DataFrame) -> _Row:
    sizes = texts["tokens"]
    kl = estimate_ratio(texts["kl"], sizes, (0.0, math.inf))
    nll, base_nll = (float(texts[name].to_numpy().sum() / sizes.sum()) for name in ("nll", "base_nll"))
    change = estimate_ratio(texts["nll"] - texts["base_nll"], sizes)  # its exponential is the ratio of perplexities
    lower, upper = _limits(kl)
    least, most = _limits(change)
    return {
        "kl": kl.value,
        "standard_error": kl.standard_error,
        "lower": lower,
        "upper": upper,
        "base_perplexity": _exp(base_nll),
        "perplexity": _exp(nll),
        "ratio": _exp(change.value),
        "ratio_lower": None if least is None else _exp(least),
        "ratio_upper": None if most is None else _exp(most),
    }


def _limits(estimate: Estimate) -> tuple[float | None, float | None]:
    return estimate.limits() or (None, None)


def _exp(nats: float) -> float:
    """Of a broken adapter the perplexity may exceed every number."""
    return math.exp(nats) if nats < 700 else math.inf
