"""The study's answer in a few sentences; every number in them is read from the tables.

Readers act on these sentences, so fixed rules keep them cautious: a difference below twice its standard error is called noise, mixes are
compared only over settings that every mix finished, and a study that taught nothing says so first.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

from kp.benchmarks.registry import BENCHMARKS
from kp.report.labels import free_knobs
from kp.report.notation import MISSING, counted, exceeds_noise, learning_rate, measured, percent, points, with_error
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
    noise_count,
    reported,
)
from kp.vocabulary import BASE, TrialStatus

Row = Mapping[str, Any]


def answer_paragraph(tables: ReportTables) -> str:
    """The opening paragraph of a report in plain text: packed, cost, gentlest mix, refusals, benchmarks."""
    return " ".join(answer_sentences(tables, evidence(tables, summary_table(tables))))


def answer_sentences(tables: ReportTables, found: Evidence) -> list[str]:
    """The sentences of the opening paragraph; the first says what could be packed."""
    rows = list(found.summary.iter_rows(named=True))
    finished = [row for row in rows if row["status"] == TrialStatus.COMPLETED]
    best = best_trial(found)
    sentences = [_packed(found, best)]
    if best is not None:
        sentences += [_cost(best, found.facts), _gain(best), _untrained(best, found)]
    sentences += [largest_reach(found), _gentlest(mix_harm(found), found), _refusals(finished, tables.scores), _benchmarks(finished)]
    sentences += [stopped_sentence(found.summary), _unfinished(rows)]
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


def _cost(best: Row, facts: str) -> str:
    harm, error = best["negative_excess"], best["negative_excess_se"]
    if harm is None:
        return "What it cost was not measured."
    figure = f"{points(harm, error)} percentage points in excess of the noise floor (± one s.e., n = {best['measured_n']:,} {facts})"
    if error is None:
        return f"Its negative shift is {figure}; without a standard error it cannot be distinguished from noise."
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


def _untrained(best: Row, found: Evidence) -> str:
    if best["untrained_lost"] is None:
        return ""
    noise = noise_count(found)
    beside = f", where the base model, asked twice, loses {counted(noise[0])} of {noise[1]:,} by chance" if noise else ""
    return (
        f"Of the {best['untrained_n']:,} {found.facts} it was not trained on, {counted(best['untrained_lost'])} fell to a lower "
        f"category{beside}."
    )


def _gentlest(mixes: list[MixHarm], found: Evidence) -> str:
    arms = found.summary["arm"].n_unique()
    if not mixes and arms > 1 and found.summary.filter(FINISHED & pl.col("negative_excess").is_not_null())["arm"].n_unique() > 1:
        return "No setting was finished with every mix, so the mixes are not compared."
    if len(mixes) < 2:
        return ""
    shared = f"that all {arms} mixes share" if len(mixes) == arms else f"that the {len(mixes)} mixes with finished trials share"
    least, most = mixes[0], mixes[-1]
    apart = most.harm - least.harm
    error = None if least.error is None or most.error is None else (least.error**2 + most.error**2) ** 0.5
    over = f"over the {least.trials} settings" if least.trials > 1 else "at the one setting"
    mean = "mean " if least.trials > 1 else ""
    chosen, on = (" on the dev facts", "on the test facts: ") if found.split else ("", "")
    sentence = (
        f"The mix that harmed least{chosen} is “{least.arm}” ({on}{mean}negative excess {points(least.harm, least.error)} points, "
        f"{mean}reliability {measured(least.reliability)}), {over} {shared}; the most harmful is “{most.arm}” "
        f"({points(most.harm, most.error)} points, {mean}reliability {measured(most.reliability)})"
    )
    if exceeds_noise(apart, error):
        return f"{sentence}." if apart > 0 else f"{sentence}; what was gentlest on the dev facts was not so on the test facts."
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
    for score in (score for benchmark in BENCHMARKS for score in benchmark.scores):
        name = score.column
        deltas = [row[f"{name}_delta"] for row in rows if row[f"{name}_delta"] is not None]
        if deltas:
            parts.append(f"{score.words} {_span(points(min(deltas)), points(max(deltas)))}")
            moved += [exceeds_noise(row[f"{name}_delta"], row[f"{name}_delta_se"]) for row in rows if row[f"{name}_delta"] is not None]
    return f"Benchmarks against the base, in points: {', '.join(parts)} ({_moved(sum(moved), len(moved))})." if parts else ""


def _unfinished(rows: list[dict[str, Any]]) -> str:
    missing = [row for row in rows if row["reliability"] is None and row["status"] != TrialStatus.STOPPED]
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
