"""The study's answer in a few sentences; every number in them is read from the tables.

Readers act on these sentences, so fixed rules keep them cautious: a difference that is not shown is never taken for none, mixes are
compared only over settings that every mix finished, and a study that taught nothing says so first.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import polars as pl

from kp.benchmarks.registry import BENCHMARKS, Score
from kp.metrics.refusal_changes import CHANGED_BELOW
from kp.report.effects_section import harm_sentences
from kp.report.labels import free_knobs
from kp.report.notation import MISSING, exceeds_noise, learning_rate, measured, percent, points, with_error
from kp.report.search_section import largest_reach, stopped_sentence
from kp.report.summary import summary_table
from kp.report.tables import ReportTables
from kp.report.winners import (
    FINISHED,
    LEARNED,
    RELIABLE,
    Evidence,
    MixHarm,
    best_trial,
    evidence,
    mix_harm,
    reported,
)
from kp.vocabulary import BASE, TrialStatus, Verdict

Row = Mapping[str, Any]


def answer_paragraph(tables: ReportTables, margin: float) -> str:
    """The opening paragraph of a report in plain text: packed, cost, gentlest mix, refusals, benchmarks."""
    return " ".join(answer_sentences(tables, evidence(tables, summary_table(tables)), margin))


def answer_sentences(tables: ReportTables, found: Evidence, margin: float) -> list[str]:
    """The sentences of the opening paragraph; the first says what could be packed."""
    rows = list(found.summary.iter_rows(named=True))
    finished = [row for row in rows if row["status"] == TrialStatus.COMPLETED]
    best = best_trial(found)
    sentences = [_packed(found, best)]
    if best is not None:
        sentences += harm_sentences(tables.effects, best["trial_id"], margin)
    sentences += [largest_reach(found), _gentlest(mix_harm(found), found), _refusals(finished, tables.scores)]
    sentences += [_benchmarks(finished, margin), stopped_sentence(found.summary), _unfinished(rows)]
    return [sentence for sentence in sentences if sentence]


def describe(row: Row) -> str:
    """A trial in words: mix, rank, learning rate."""
    return f"“{row['arm']}”, rank {row['rank']}, learning rate {learning_rate(row['learning_rate'])}"


def _packed(found: Evidence, best: Row | None) -> str:
    if best is not None:
        return _most_packed(found, best)
    scored = found.chosen_by.filter(FINISHED & pl.col("reliability").is_not_null())
    if scored.is_empty():
        return (
            f"No trial of {len(found.summary)} finished with an adapter whose answers were measured, so this study cannot say what can be "
            "packed."
        )
    chosen = max(scored.iter_rows(named=True), key=lambda row: row["reliability"])
    most = reported(found, chosen["trial_id"])
    on = f" on the {found.facts}" if found.split else ""
    reached = f"{with_error(most['reliability'], most['reliability_se'])}{on} (N = {most['unknown']}, {describe(most)})"
    if chosen["reliability"] < max(LEARNED, 2 * (chosen["reliability_se"] or 0)):
        return f"Nothing was learned: the highest reliability of any trial is {reached}, so nothing follows about how much can be packed."
    return (
        f"No trial reached a reliability of {RELIABLE}; the nearest is {reached}, which is {measured(most['facts_packed'])} facts packed."
    )


def _most_packed(found: Evidence, best: Row) -> str:
    reliability = with_error(best["reliability"], best["reliability_se"])
    if not found.split:
        return (
            f"The most that this study packed at a reliability of {RELIABLE} or more is {measured(best['facts_packed'])} of "
            f"{best['unknown']} new facts (reliability {reliability}), with {describe(best)}{_over_seeds(found, best)}."
        )
    chosen = (
        f"Of the trials with a reliability of {RELIABLE} or more on the {found.dev_facts:,} dev facts, the one that packed most has "
        f"N = {best['unknown']}, {describe(best)}{_over_seeds(found, best)}"
    )
    if best["reliability"] is None:
        return f"{chosen}; none of the facts it was taught is among the {found.test_facts:,} test facts, so what it packed is not known."
    return (
        f"{chosen}; on the {found.test_facts:,} test facts, which had no part in the choice, its reliability is {reliability}, which is "
        f"{measured(best['facts_packed'])} of {best['unknown']} new facts packed."
    )


def _over_seeds(found: Evidence, best: Row) -> str:
    """The range of reliability over the seeds of the same setting; empty where there is one."""
    knobs = ("arm", "unknown", "rank", "learning_rate", *free_knobs(found.summary))
    rows = found.report_split.filter(FINISHED & pl.col("reliability").is_not_null()).iter_rows(named=True)
    same = [row["reliability"] for row in rows if all(row[knob] == best[knob] for knob in knobs)]
    on = f" on the {found.facts}" if found.split else ""
    return (
        f", seed {best['seed']}; over {len(same)} seeds the reliability{on} is {measured(min(same))} to {measured(max(same))}"
        if len(same) > 1
        else ""
    )


def _gentlest(mixes: list[MixHarm], found: Evidence) -> str:
    arms = found.summary["arm"].n_unique()
    if not mixes and arms > 1 and found.summary.filter(FINISHED & pl.col("knowledge_loss").is_not_null())["arm"].n_unique() > 1:
        return "No setting was finished with every mix, so the mixes are not compared."
    if len(mixes) < 2:
        return ""
    shared = f"that all {arms} mixes share" if len(mixes) == arms else f"that the {len(mixes)} mixes with finished trials share"
    least, most = mixes[0], mixes[-1]
    apart = most.harm - least.harm
    error = None if least.error is None or most.error is None else (least.error**2 + most.error**2) ** 0.5
    over = f"over the {least.trials} settings" if least.trials > 1 else "at the one setting"
    mean = "mean " if least.trials > 1 else ""
    sentence = (
        f"The mix that harmed least is “{least.arm}” ({mean}loss {points(least.harm, least.error)} points on other known facts, "
        f"{mean}reliability {measured(least.reliability)}), {over} {shared}; the most harmful is “{most.arm}” "
        f"({points(most.harm, most.error)} points, {mean}reliability {measured(most.reliability)})"
    )
    if exceeds_noise(apart, error):
        return f"{sentence}."
    return f"{sentence}, but this study does not resolve which of the two harms less."


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


def _benchmarks(rows: list[dict[str, Any]], margin: float) -> str:
    parts = [_benchmark(score, rows, margin) for benchmark in BENCHMARKS for score in benchmark.scores]
    measured = "; ".join(part for part in parts if part)
    return f"Benchmarks against the base over the same questions, in points: {measured}." if measured else ""


def _benchmark(score: Score, rows: list[dict[str, Any]], margin: float) -> str:
    """The range of a score's differences, and for how many adapters each verdict holds; empty if it was not measured."""
    name = f"{score.column}_delta"
    known = [row for row in rows if row[name] is not None]
    if not known:
        return ""
    deltas = [row[name] for row in known]
    verdicts = Counter(Verdict(row[f"{name}_verdict"]) for row in known)
    words = {
        Verdict.HARM_SHOWN: "harm shown for",
        Verdict.WITHIN_MARGIN: f"no harm beyond {100 * margin:g} points shown for",
        Verdict.NOT_RESOLVED: "not resolved for",
    }
    counts = [f"{words[verdict]} {verdicts[verdict]}" for verdict in words if verdicts[verdict]]
    left_open = [row[f"{name}_resolvable"] for row in known if row[f"{name}_verdict"] == Verdict.NOT_RESOLVED]
    resolvable = sorted(100 * harm for harm in left_open if harm is not None)
    could = f", where a harm of {_span(f'{resolvable[0]:.1f}', f'{resolvable[-1]:.1f}')} could have been resolved" if resolvable else ""
    return f"{score.words} {_span(points(min(deltas)), points(max(deltas)))} (of {_adapters(len(known))}: {', '.join(counts)}{could})"


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
