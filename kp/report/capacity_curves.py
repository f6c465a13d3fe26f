"""How recall and memorised bits depend on what adapters were loaded with: pictures, and sentences on the curves that the trials allow.

Bits a parameter are a floor of what an adapter can hold: a trial that recalls all of its facts says how much there was to learn, and one of
few exposures how far it came. So the sentences name the range of loads and exposures that was measured, and say nothing beyond it.
"""

import math

import polars as pl

from kp.metrics.capacity_fits import NoFit, Parameter, fit_capacity, fit_recall
from kp.report.figure_data import ARM_COLOURS, MARKERS, THICK, Line, LineKey, LinePanel, LinePanels
from kp.report.notation import MISSING, measured
from kp.report.tables import ReportTables

CAPTIONS = {
    "recall_against_load": "Share of packed facts whose answer is the greedy choice token by token, without shots, against the bits to "
    "learn a parameter of the adapter (each step to the right doubles them), with 95% intervals. Colour is the rank.",
    "bits_per_parameter": "Memorised bits a parameter against the packed facts N (each step to the right doubles them), with 95% "
    "intervals. Colour is the rank.",
}


def loaded_trials(tables: ReportTables, summary: pl.DataFrame) -> pl.DataFrame:
    """CAPACITY with the knobs and exposures of its trials, and the bits to learn: their entropy where it is known, else their surprisal.

    `load` is that, a parameter. Empty without CAPACITY.
    """
    if tables.capacity is None or tables.capacity.is_empty():
        return pl.DataFrame()
    knobs = summary.select("trial_id", "label", "rank", "learning_rate", "seed")
    trials = knobs.join(tables.trials.select("trial_id", "exposures"), on="trial_id", maintain_order="left")
    joined = trials.join(tables.capacity, on="trial_id", how="inner", maintain_order="left")
    to_learn = pl.coalesce(pl.col("entropy") * pl.col("facts"), "held_bits")
    ends = {f"per_parameter_{end}": pl.col(end) / pl.col("parameters") for end in ("lower", "upper")}
    return joined.with_columns(load=to_learn / pl.col("parameters"), **ends)


def range_sentences(trials: pl.DataFrame) -> str:
    """The loads and exposures of these `loaded_trials`."""
    known = trials["entropy"].null_count() == 0
    bits = "the entropy of its object, log2 of its relation's vocabulary" if known else "its surprisal under the base, an upper bound"
    return (
        f"Measured at {_between(trials, 'load')} bits to learn a parameter (of each fact, {bits}) and at {_between(trials, 'exposures')} "
        "exposures a fact; nothing is said of other loads. Bits a parameter are a floor of what an adapter could hold: no trial memorises "
        "more than its facts have, nor more than its exposures teach."
    )


def opening_sentence(tables: ReportTables, summary: pl.DataFrame) -> str | None:
    """What a study whose adapters answered no questions found: the trial with the most bits a parameter; None without any bits."""
    trials = loaded_trials(tables, summary)
    if trials.is_empty():
        return None
    most = trials.sort("per_parameter", descending=True).row(0, named=True)
    interval = "" if most["lower"] is None else f" ({measured(most['per_parameter_lower'])} to {measured(most['per_parameter_upper'])})"
    return (
        f"Adapters answered no questions; of {len(trials)} measured trials, {most['label']} memorised the most, "
        f"{measured(most['per_parameter'])}{interval} bits a parameter, {measured(most['per_fact'])} bits of each of {most['facts']:,} "
        f"facts after {measured(most['exposures'])} exposures of each."
    )


def fit_sentences(trials: pl.DataFrame) -> str:
    """What curves through these `loaded_trials` say, or why they say nothing."""
    recall, capacity = fit_recall(trials), fit_capacity(trials)
    half = (
        f"No curve of recall against load: {recall.reason}."
        if isinstance(recall, NoFit)
        else f"Half of the facts are recalled at {_spread(recall.half)} bits to learn a parameter, by a logistic curve in the log load."
    )
    if isinstance(capacity, NoFit):
        return f"{half} No curve of capacity against rank: {capacity.reason}."
    return (
        f"{half} Rank r holds at most {_spread(capacity.at_rank_one)} × r^{_spread(capacity.power)} bits, of facts of "
        f"{_spread(capacity.bits_per_fact)} bits while there is room. Intervals are 95% of a bootstrap over trials."
    )


def recall_against_load(tables: ReportTables, summary: pl.DataFrame) -> LinePanels | None:
    """Recall in percent against the load; None unless trials differ in their load."""
    return _lines(loaded_trials(tables, summary), "load", "recall", 100, "log2 of the bits to learn a parameter", "recall (%)")


def bits_per_parameter(tables: ReportTables, summary: pl.DataFrame) -> LinePanels | None:
    """M / P against N; None unless trials differ in N."""
    return _lines(loaded_trials(tables, summary), "facts", "per_parameter", 1, "log2 of N", "memorised bits a parameter")


def _lines(trials: pl.DataFrame, across: str, up: str, factor: float, x_title: str, y_title: str) -> LinePanels | None:
    """A line for each rank, learning rate and seed, with the intervals as its band; colour is the rank."""
    if trials.is_empty() or trials[across].n_unique() < 2:
        return None
    styles = {rank: (ARM_COLOURS[place % len(ARM_COLOURS)], MARKERS[place % len(MARKERS)]) for place, rank in enumerate(_ranks(trials))}
    by_line = trials.sort(across).group_by("rank", "learning_rate", "seed", maintain_order=True)
    lines = tuple(_line(of_line, across, up, factor, *styles[of_line["rank"][0]]) for _, of_line in by_line)
    xs = [place for line in lines for place in line.x]
    ys = [0.0, *(end for line in lines for end in (*line.y, *line.low, *line.high) if end is not None)]
    room = 0.05 * (max(ys) - min(ys) or 1.0)
    ticks = tuple(range(math.floor(min(xs)), math.ceil(max(xs)) + 1))
    keys = tuple(LineKey(f"rank {rank}", f"rank {rank}", *style) for rank, style in styles.items())
    x_range, y_range = (ticks[0] - 0.2, ticks[-1] + 0.2), (min(ys) - room, max(ys) + room)
    return LinePanels(x_title, y_title, x_range, ticks, y_range, (LinePanel("", lines),), keys)


def _line(trials: pl.DataFrame, across: str, up: str, factor: float, colour: str, marker: str) -> Line:
    rank = f"rank {trials['rank'][0]}"
    xs = tuple(math.log2(value) for value in trials[across])
    value, low, high = (tuple(None if one is None else factor * one for one in trials[name]) for name in (up, f"{up}_lower", f"{up}_upper"))
    return Line(rank, rank, colour, "solid", marker, THICK, xs, value, low, high, cut_short=False)


def _ranks(trials: pl.DataFrame) -> list[int]:
    return sorted(set(trials["rank"]))


def _between(trials: pl.DataFrame, name: str) -> str:
    known = sorted(trials[name].drop_nulls())
    return " to ".join(dict.fromkeys(measured(end) for end in (known[:1] + known[-1:]))) or MISSING


def _spread(parameter: Parameter) -> str:
    return f"{measured(parameter.value)} ({measured(parameter.lower)} to {measured(parameter.upper)})"
