"""The study's answer in a few sentences; every number in them is read from the tables.

Readers act on these sentences, so fixed rules keep them cautious: a difference that is not shown is never taken for none, mixes are
compared only over settings that every mix finished, and a study that taught nothing says so first.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import polars as pl

from kp.benchmarks.registry import SCORES
from kp.metrics.benchmark_chance import at_chance
from kp.metrics.refusal_changes import CHANGED_BELOW
from kp.report.arms_section import arm_table, arms_sentences
from kp.report.benchmarks_section import measured_scores, score_title
from kp.report.capacity_curves import opening_sentence
from kp.report.effects_section import harm_sentences
from kp.report.labels import free_knobs
from kp.report.notation import MISSING, learning_rate, measured, percent, points, with_error
from kp.report.search_section import largest_reach, stopped_sentence
from kp.report.summary import summary_table
from kp.report.tables import ReportTables
from kp.report.winners import (
    FINISHED,
    LEARNED,
    RELIABLE,
    Evidence,
    best_trial,
    evidence,
)
from kp.vocabulary import BASE, TrialStatus, Verdict

Row = Mapping[str, Any]
_WORDS = {(benchmark.task, score.metric): score.words for benchmark, score in SCORES}
_TOLD = ("acc",)  # of tasks that are asked for by name: the score that every one of several choices has


def answer_text(tables: ReportTables, margin: float, summary: pl.DataFrame | None = None, arms: pl.DataFrame | None = None) -> str:
    """The opening of a report in plain text, a line a sentence: packed, cost, mixes, refusals, benchmarks.

    `summary` and `arms` are those of the report, for who has them; absent: they are made here.
    """
    found = evidence(tables, summary_table(tables) if summary is None else summary)
    return "\n".join(answer_sentences(tables, found, arm_table(tables, found) if arms is None else arms, margin))


def answer_sentences(tables: ReportTables, found: Evidence, arms: pl.DataFrame, margin: float) -> list[str]:
    """The sentences of the opening; the first says what could be packed. `arms` are the mixes compared (ARMS)."""
    rows = list(found.summary.iter_rows(named=True))
    finished = [row for row in rows if row["status"] == TrialStatus.COMPLETED]
    best = best_trial(found)
    asked = found.summary["reliability"].null_count() < len(found.summary)
    sentences = [(None if asked else opening_sentence(tables, found.summary)) or _packed(found, best)]
    if best is not None:
        sentences += harm_sentences(tables.effects, best["trial_id"], margin)
    sentences += [largest_reach(found), *arms_sentences(found, arms), _refusals(finished, tables.scores)]
    sentences += [_benchmarks(tables, finished, margin), stopped_sentence(found.summary), _unfinished(rows)]
    return [sentence for sentence in sentences if sentence]


def describe(row: Row) -> str:
    """A trial in words: mix, rank, learning rate."""
    return f"“{row['arm']}”, rank {row['rank']}, learning rate {learning_rate(row['learning_rate'])}"


def _packed(found: Evidence, best: Row | None) -> str:
    if best is not None:
        return _most_packed(found, best)
    scored = found.summary.filter(FINISHED & pl.col("reliability").is_not_null())
    if scored.is_empty():
        return (
            f"No trial of {len(found.summary)} finished with an adapter whose answers were measured, so this study cannot say what can be "
            "packed."
        )
    most = max(scored.iter_rows(named=True), key=lambda row: row["reliability"])
    reached = f"{with_error(most['reliability'], most['reliability_se'])} (N = {most['unknown']}, {describe(most)})"
    if most["reliability"] < max(LEARNED, 2 * (most["reliability_se"] or 0)):
        return f"Nothing was learned: the highest reliability of any trial is {reached}, so nothing follows about how much can be packed."
    return (
        f"No trial reached a reliability of {RELIABLE}; the nearest is {reached}, which is {measured(most['facts_packed'])} facts packed."
    )


def _most_packed(found: Evidence, best: Row) -> str:
    """Told on S2, on which it was not chosen, if the study asked its adapters there."""
    told, note = ("reliability", "") if best["reliability_s2"] is None else ("reliability_s2", " on S2")
    chosen = f"; chosen for {measured(best['reliability'])} on S1" if note else ""
    reliability = with_error(best[told], best[f"{told}_se"])
    return (
        f"The most that this study packed at a reliability of {RELIABLE} or more is {measured(best[told] * best['unknown'])} of "
        f"{best['unknown']} new facts (reliability {reliability}{note}{chosen}), with {describe(best)}{_over_seeds(found, best)}."
    )


def _over_seeds(found: Evidence, best: Row) -> str:
    """The range of reliability over the seeds of the same setting; empty where there is one."""
    knobs = ("arm", "unknown", "rank", "learning_rate", *free_knobs(found.summary))
    rows = found.summary.filter(FINISHED & pl.col("reliability").is_not_null()).iter_rows(named=True)
    same = [row["reliability"] for row in rows if all(row[knob] == best[knob] for knob in knobs)]
    if len(same) < 2:
        return ""
    return f", seed {best['seed']}; over {len(same)} seeds the reliability on S1 is {measured(min(same))} to {measured(max(same))}"


def _refusals(rows: list[dict[str, Any]], scores: pl.DataFrame) -> str:
    base = scores.filter((pl.col("trial_id") == BASE) & (pl.col("measure") == "refusal_rate"))
    known = [row for row in rows if row["refusal_rate"] is not None]
    if not len(base) or not known:
        return ""
    figures = [row["refusal_rate"] for row in known]
    span = _span(percent(min(figures)), percent(max(figures)))
    p_values = [row["refusal_rate_delta_p_holm"] for row in known if row["refusal_rate_delta_p_holm"] is not None]
    changed = sum(p_value < CHANGED_BELOW for p_value in p_values)
    shown = f" (a change is shown for {changed or 'none'} of {_adapters(len(p_values))}, at 95% with Holm's correction)" if p_values else ""
    return f"Refusals: {percent(base['value'][0])} % of the base model's answers, {span} % of the adapters'{shown}."


def _benchmarks(tables: ReportTables, rows: list[dict[str, Any]], margin: float) -> str:
    """What is shown of the scores on which the base is above chance."""
    guessed, finished = at_chance(tables.benchmarks), {row["trial_id"] for row in rows}
    parts = []
    for task, metric in measured_scores(tables.benchmarks):
        if (task, metric) in guessed or (metric not in _TOLD and (task, metric) not in _WORDS):
            continue
        effects = tables.benchmark_effects.filter(pl.col("trial_id").is_in(list(finished)), task=task, metric=metric)
        parts += [_benchmark(_WORDS.get((task, metric), score_title(task, metric)), effects.to_dicts(), margin)] if len(effects) else []
    measured = "; ".join(parts)
    return f"Benchmarks against the base over the same questions, in points: {measured}." if measured else ""


def _benchmark(words: str, known: list[dict[str, Any]], margin: float) -> str:
    """The range of a score's differences, and for how many adapters each verdict holds."""
    deltas = [row["value"] for row in known]
    verdicts = Counter(Verdict(row["verdict"]) for row in known)
    said = {
        Verdict.HARM_SHOWN: "harm shown for",
        Verdict.WITHIN_MARGIN: f"no harm beyond {100 * margin:g} points shown for",
        Verdict.NOT_RESOLVED: "not resolved for",
    }
    counts = [f"{said[verdict]} {verdicts[verdict]}" for verdict in said if verdicts[verdict]]
    left_open = [row["resolvable"] for row in known if row["verdict"] == Verdict.NOT_RESOLVED]
    resolvable = sorted(100 * harm for harm in left_open if harm is not None)
    could = f", where a harm of {_span(f'{resolvable[0]:.1f}', f'{resolvable[-1]:.1f}')} could have been resolved" if resolvable else ""
    return f"{words} {_span(points(min(deltas)), points(max(deltas)))} (of {_adapters(len(known))}: {', '.join(counts)}{could})"


def _unfinished(rows: list[dict[str, Any]]) -> str:
    missing = [row for row in rows if row["reliability"] is None and row["status"] != TrialStatus.STOPPED]
    if not missing or len(missing) == len(rows):
        return ""
    causes = ", ".join(sorted({row["status"] for row in missing}))
    return f"Not measured, and in no comparison: {len(missing)} of {len(rows)} trials ({causes})."


def _span(low: str, high: str) -> str:
    return low if low == high or high == MISSING else f"{low} to {high}"


def _adapters(count: int) -> str:
    return f"{count} adapter{'s' if count > 1 else ''}"
