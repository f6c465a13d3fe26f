"""The study's answer in a few sentences, every number of which is read from the tables.

A reader acts on these sentences, so they are cautious by rule and not by mood: a difference below twice its standard error is said to be
within the noise, a mix is called gentlest only over trials that every mix ran alike, and a study that taught nothing says that first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from kp.report.notation import MISSING, counted, exceeds_noise, measured, percent, points, setting, with_error
from kp.report.summary import BENCHMARK_COLUMNS, summary_table
from kp.report.tables import ReportTables
from kp.vocabulary import BASE, NOISE, ShiftView

RELIABLE = 0.8  # the reliability from which a trial's facts count as packed
LEARNED = 0.05  # below this, or below twice its standard error, a trial taught nothing worth the name
BENCHMARK_NAMES = {"mmlu_dev": "MMLU-dev", "mc1": "misconceptions MC1", "mc2": "misconceptions MC2"}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Gentleness:
    """One mix over the trials that all mixes have in common: mean negative excess shift, its standard error, mean reliability."""

    arm: str
    harm: float
    error: float | None
    reliability: float | None
    trials: int


def answer_paragraph(tables: ReportTables) -> str:
    """The opening paragraph of a report in plain text: packed, cost, gentlest mix, refusals, benchmarks."""
    return " ".join(answer_sentences(tables))


def answer_sentences(tables: ReportTables) -> list[str]:
    """The sentences of the opening paragraph; the first says what could be packed."""
    summary = summary_table(tables)
    rows = list(summary.iter_rows(named=True))
    best = best_trial(summary)
    sentences = [_packed(rows, best)]
    if best is not None:
        sentences += [_cost(best), _gain(best), _untrained(best, tables.shifts)]
    sentences += [_gentlest(gentleness(summary)), _refusals(rows, tables.scores), _benchmarks(rows), _unfinished(rows)]
    return [sentence for sentence in sentences if sentence]


def best_trial(summary: pl.DataFrame) -> dict[str, Any] | None:
    """The row with the most facts packed at `RELIABLE` or more; of equals the one with the least negative excess shift."""
    reliable = summary.filter((pl.col("reliability") >= RELIABLE) & ~_nothing_learned_expression())
    ordered = reliable.sort(["facts_packed", "negative_excess", "trial_id"], descending=[True, False, False], nulls_last=True)
    return ordered.row(0, named=True) if len(ordered) else None


def gentleness(summary: pl.DataFrame) -> list[Gentleness]:
    """The mixes from the least to the most negative excess shift, each over the knob settings that every mix was measured at.

    All trials are measured on the same facts against the same noise, so their errors do not average out: a mix's is the mean of them.
    """
    measured_rows = summary.filter(pl.col("negative_excess").is_not_null())
    knobs = ["unknown", "rank", "learning_rate", "seed"]
    arms = summary["arm"].n_unique()
    common = measured_rows.group_by(knobs).agg(pl.col("arm").n_unique().alias("arms")).filter(pl.col("arms") == arms)
    shared = measured_rows.join(common, on=knobs, how="semi")
    means = shared.group_by("arm", maintain_order=True).agg(
        harm=pl.col("negative_excess").mean(),
        error=pl.when(pl.col("negative_excess_se").null_count() == 0).then(pl.col("negative_excess_se").mean()),
        reliability=pl.col("reliability").mean(),
        trials=pl.len(),
    )
    return [Gentleness(**row) for row in means.sort("harm", "arm").iter_rows(named=True)]


def describe(row: Row) -> str:
    """A trial in words: mix, rank, learning rate."""
    return f"“{row['arm']}”, rank {row['rank']}, learning rate {setting(row['learning_rate'])}"


def _nothing_learned_expression() -> pl.Expr:
    low = pl.col("reliability") < LEARNED
    return (low | (pl.col("reliability") < 2 * pl.col("reliability_se"))).fill_null(low)


def _packed(rows: list[dict[str, Any]], best: Row | None) -> str:
    if best is not None:
        return (
            f"The most that this study packed at a reliability of {RELIABLE} or more is {measured(best['facts_packed'])} of "
            f"{best['unknown']} new facts (reliability {with_error(best['reliability'], best['reliability_se'])}), with {describe(best)}"
            f"{_over_seeds(rows, best)}."
        )
    scored = [row for row in rows if row["reliability"] is not None]
    if not scored:
        return f"No trial of {len(rows)} ended with an adapter whose answers were measured, so this study cannot say what can be packed."
    most = max(scored, key=lambda row: row["reliability"])
    reached = f"{with_error(most['reliability'], most['reliability_se'])} (N = {most['unknown']}, {describe(most)})"
    if most["reliability"] < max(LEARNED, 2 * (most["reliability_se"] or 0)):
        return f"Nothing was learned: the highest reliability of any trial is {reached}, so nothing follows about how much can be packed."
    return (
        f"No trial reached a reliability of {RELIABLE}; the nearest is {reached}, which is {measured(most['facts_packed'])} facts packed."
    )


def _over_seeds(rows: list[dict[str, Any]], best: Row) -> str:
    """The range of reliability over the seeds of the same setting; empty where there is one."""
    knobs = ("arm", "unknown", "rank", "learning_rate")
    same = [row["reliability"] for row in rows if all(row[knob] == best[knob] for knob in knobs) and row["reliability"] is not None]
    return (
        f", seed {best['seed']}; over {len(same)} seeds the reliability is {measured(min(same))} to {measured(max(same))}"
        if len(same) > 1
        else ""
    )


def _cost(best: Row) -> str:
    harm, error = best["negative_excess"], best["negative_excess_se"]
    if harm is None:
        return "What it cost was not measured."
    figure = f"{points(harm, error)} percentage points in excess of the noise floor (± one s.e., n = {best['measured_n']:,} facts)"
    if error is None:
        return f"Its negative shift is {figure}; without a standard error nobody can tell that from noise."
    if not exceeds_noise(harm, error):
        return (
            f"Its cost is within the noise: the negative shift is {figure}, which shows no harm "
            f"but does not rule out up to {measured(100 * (harm + 2 * error))} points of it."
        )
    if harm < 0:
        return f"It lost less than the base model loses between two measurements: the negative shift is {figure}."
    return f"It cost knowledge: the negative shift is {figure}, beyond what noise explains."


def _gain(best: Row) -> str:
    gain, error = best["positive_excess"], best["positive_excess_se"]
    if gain is None:
        return ""
    verdict = "beyond the noise" if exceeds_noise(gain, error) else "within the noise"
    return f"The positive shift, trained facts counted in, is {points(gain, error)} points in excess, {verdict}."


def _untrained(best: Row, shifts: pl.DataFrame) -> str:
    if best["untrained_lost"] is None:
        return ""
    noise = shifts.filter((pl.col("trial_id") == NOISE) & (pl.col("view") == ShiftView.ALL) & (pl.col("shift") == "negative"))
    beside = ""
    if len(noise):
        beside = f", where the base model, asked twice, loses {counted(noise['count'][0])} of {noise['n'][0]:,} by chance"
    return (
        f"Of the {best['untrained_n']:,} facts it was not trained on, {counted(best['untrained_lost'])} fell to a lower category{beside}."
    )


def _gentlest(mixes: list[Gentleness]) -> str:
    if len(mixes) < 2:
        return ""
    least, most = mixes[0], mixes[-1]
    apart = most.harm - least.harm
    error = None if least.error is None or most.error is None else (least.error**2 + most.error**2) ** 0.5
    over = f"over the {least.trials} settings" if least.trials > 1 else "at the one setting"
    mean = "mean " if least.trials > 1 else ""
    sentence = (
        f"The mix that harmed least is “{least.arm}” ({mean}negative excess {points(least.harm, least.error)} points, {mean}reliability "
        f"{measured(least.reliability)}), {over} that all {len(mixes)} mixes share; the most harmful is “{most.arm}” "
        f"({points(most.harm, most.error)} points, {mean}reliability {measured(most.reliability)})"
    )
    if exceeds_noise(apart, error):
        return f"{sentence}."
    return f"{sentence}, but the two lie within the noise of each other, so the order may be chance."


def _refusals(rows: list[dict[str, Any]], scores: pl.DataFrame) -> str:
    base = scores.filter((pl.col("trial_id") == BASE) & (pl.col("measure") == "refusal_rate"))
    known = [row for row in rows if row["refusal_rate"] is not None]
    if not len(base) or not known:
        return ""
    figures = [row["refusal_rate"] for row in known]
    span = _span(percent(min(figures)), percent(max(figures)))
    moved = sum(exceeds_noise(row["refusal_rate_delta"], row["refusal_rate_delta_se"]) for row in known)
    return f"Refusals: {percent(base['value'][0])} % of the base model's answers, {span} % of the adapters' ({_moved(moved, len(known))})."


def _benchmarks(rows: list[dict[str, Any]]) -> str:
    parts, moved = [], []
    for name in BENCHMARK_COLUMNS:
        deltas = [row[f"{name}_delta"] for row in rows if row[f"{name}_delta"] is not None]
        if deltas:
            parts.append(f"{BENCHMARK_NAMES[name]} {_span(points(min(deltas)), points(max(deltas)))}")
            moved += [exceeds_noise(row[f"{name}_delta"], row[f"{name}_delta_se"]) for row in rows if row[f"{name}_delta"] is not None]
    return f"Benchmarks against the base, in points: {', '.join(parts)} ({_moved(sum(moved), len(moved))})." if parts else ""


def _unfinished(rows: list[dict[str, Any]]) -> str:
    missing = [row for row in rows if row["reliability"] is None]
    if not missing or len(missing) == len(rows):
        return ""
    causes = ", ".join(sorted({row["status"] for row in missing}))
    return f"Not measured, and in no comparison: {len(missing)} of {len(rows)} trials ({causes})."


def _span(low: str, high: str) -> str:
    return low if low == high or high == MISSING else f"{low} to {high}"


def _moved(moved: int, asked: int) -> str:
    if moved == 0:
        return "all within the noise"
    return f"{moved} of {asked} beyond the noise"
