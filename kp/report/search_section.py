"""What a search found: which configurations learn N facts reliably, and a view of the grid.

A configuration is everything that was chosen for a trial except its seed. Its figure is the mean over the seeds that finished. One that
the scheduler stopped has no figure, only its last unknown_accuracy.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from kp.report.document import Block, Points, Row, Section, Table, Text, columns
from kp.report.labels import KNOBS, STOPPED_MARK, free_knobs, knob_value
from kp.report.notation import MISSING, learning_rate, measured, with_error
from kp.report.winners import FINISHED, STOPPED, Evidence
from kp.vocabulary import TrialStatus

LEARNED_FOR_GOOD = 0.95  # the reliability from which a configuration counts as learning its facts
NAMED = 3  # configurations named by a sentence of the opening paragraph
LISTED = 12  # and by a sentence of the section


@dataclass(frozen=True)
class Configuration:
    """One choice of mix, rank, learning rate and other knobs at one N; `reliability` is the mean over finished, measured seeds."""

    unknown: int
    arm: str
    rank: int
    learning_rate: float
    others: tuple[tuple[str, str], ...]  # name and value of every other knob that varies independently
    reliability: float | None  # on S2, on which it was not chosen, if adapters were asked there
    error: float | None  # if one seed was run
    lowest: float | None
    highest: float | None
    seeds: int
    chosen_by: float | None  # reliability on S1

    def __str__(self) -> str:
        others = "".join(f", {name} {value}" for name, value in self.others)
        return f"rank {self.rank}, learning rate {learning_rate(self.learning_rate)}{others}, {self.arm}"

    @property
    def figure(self) -> str:
        """The reliability with its error or the range over seeds."""
        if self.seeds < 2:
            return with_error(self.reliability, self.error)
        return f"{measured(self.reliability)}, {measured(self.lowest)} to {measured(self.highest)} over {self.seeds} seeds"


def search_section(found: Evidence) -> Section:
    """How the trials ended, which configurations reach `LEARNED_FOR_GOOD` for each N, and the grid."""
    summary = found.summary
    if summary.is_empty():
        return Section("search", "What the search found", ())
    blocks: list[Block] = [Text(" ".join(filter(None, (_endings(summary), stopped_sentence(summary)))))]
    if summary["reliability"].is_null().all():  # adapters were asked nothing
        return Section("search", "What the search found", tuple(blocks))
    sentences = [_reach(found, unknown, LISTED) for unknown in sorted(summary["unknown"].unique())]
    blocks += [Points(tuple(sentence for sentence in sentences if sentence)), _grid(found)]
    kept = tuple(block for block in blocks if not isinstance(block, Points) or block.items)
    return Section("search", "What the search found", kept)


def largest_reach(found: Evidence) -> str:
    """A sentence on the largest N that some configuration learns reliably; empty if none does."""
    for unknown in sorted(found.summary["unknown"].unique(), reverse=True):
        if _reaching(_configurations(found, unknown)):
            return _reach(found, unknown, NAMED)
    return ""


def stopped_sentence(summary: pl.DataFrame) -> str:
    """How many trials were stopped, and why their figures do not compare with the others; empty if none was."""
    stopped = summary.filter(STOPPED).height
    if not stopped:
        return ""
    were, they, figures = ("was", "It", "its") if stopped == 1 else ("were", "They", "their")
    return (
        f"{stopped} of {len(summary)} trials {were} stopped early by the scheduler ({STOPPED_MARK}). {they} trained for fewer epochs, so "
        f"{figures} harm is not that of a finished trial; they are in no comparison of mixes, and none is a winner."
    )


def _endings(summary: pl.DataFrame) -> str:
    counts = [(status.value, summary.filter(pl.col("status") == status.value).height) for status in TrialStatus]
    listed = ", ".join(f"{count} {name}" for name, count in counts if count)
    return f"{len(summary)} trial{'s' if len(summary) > 1 else ''}: {listed}."


def _reach(found: Evidence, unknown: int, most: int) -> str:
    configurations = _configurations(found, unknown)
    reaching = _reaching(configurations)
    on, note = "on S1", " (figures on S2)" if found.summary["reliability_s2"].null_count() < len(found.summary) else ""
    if reaching:
        named = "; ".join(f"{each} ({each.figure})" for each in reaching[:most])
        more = f"; and {len(reaching) - most} more" if len(reaching) > most else ""
        return f"N = {unknown:,} Unknown facts reach a reliability of {LEARNED_FOR_GOOD} {on} with{note}: {named}{more}."
    scored = [each for each in configurations if each.chosen_by is not None]
    if not scored:
        return f"N = {unknown:,}: no configuration was finished and measured."
    best = max(scored, key=lambda each: each.chosen_by or 0.0)
    return (
        f"N = {unknown:,}: no configuration reaches a reliability of {LEARNED_FOR_GOOD} {on}; the nearest{note} is {best} ({best.figure})."
    )


def _reaching(configurations: Iterable[Configuration]) -> list[Configuration]:
    reaching = [each for each in configurations if each.chosen_by is not None and each.chosen_by >= LEARNED_FOR_GOOD]
    return sorted(reaching, key=lambda each: -(each.chosen_by or 0.0))


def _configurations(found: Evidence, unknown: int) -> list[Configuration]:
    """The configurations of one N with a finished, measured trial, in the summary's order."""
    free = free_knobs(found.summary)
    keys = ["unknown", "arm", "rank", "learning_rate", *free]
    finished = found.summary.filter(FINISHED & (pl.col("unknown") == unknown)).with_columns(
        pl.col("reliability").alias("chosen_by"),
        pl.coalesce("reliability_s2", "reliability").alias("reliability"),
        pl.coalesce("reliability_s2_se", "reliability_se").alias("reliability_se"),
    )
    grouped = (
        finished.filter(pl.col("chosen_by").is_not_null())
        .group_by(keys, maintain_order=True)
        .agg(
            pl.col("reliability").mean(),
            pl.col("reliability").min().alias("lowest"),
            pl.col("reliability").max().alias("highest"),
            pl.col("reliability_se").first().alias("error"),
            pl.col("chosen_by").mean(),
            pl.len().alias("seeds"),
        )
    )
    return [_configuration(row, free) for row in grouped.iter_rows(named=True)]


def _configuration(row: Mapping[str, Any], free: list[str]) -> Configuration:
    others = tuple((KNOBS[name], knob_value(row[name])) for name in free)
    return Configuration(**{key: value for key, value in row.items() if key not in free}, others=others)


def _grid(found: Evidence) -> Table:
    """N x rank x learning rate, by mix; over all facts."""
    summary = found.summary
    free = free_knobs(summary)
    keys = ["unknown", "rank", "learning_rate", *free]
    arms = summary["arm"].unique(maintain_order=True).to_list()
    cells: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in summary.iter_rows(named=True):
        cells.setdefault((*(row[key] for key in keys), row["arm"]), []).append(row)
    rows = []
    for setting in summary.select(keys).unique().sort(keys).iter_rows():
        unknown, rank, rate, *others = setting
        head = (f"{unknown:,}", str(rank), learning_rate(rate), *map(knob_value, others))
        rows.append(Row((*head, *(_cell(cells.get((*setting, arm), [])) for arm in arms))))
    seeded = " For several seeds: the mean over those that finished and were measured, and their range." if _seeded(summary) else ""
    stopped = (
        f" {STOPPED_MARK} was stopped early: its unknown_accuracy at that point, which is another measure, on other prompts."
        if summary.filter(STOPPED).height
        else ""
    )
    caption = f"Reliability on S1 ± one standard error by N, rank and learning rate (rows) and mix (columns).{seeded}{stopped} "
    return Table(caption, columns("N", "rank", "learning rate", *(KNOBS[name] for name in free), *arms), tuple(rows))


def _seeded(summary: pl.DataFrame) -> bool:
    return summary["seed"].n_unique() > 1


def _cell(trials: list[Mapping[str, Any]]) -> str:
    """The cell of one configuration's trials, one per seed."""
    finished = [row for row in trials if row["status"] == TrialStatus.COMPLETED and row["reliability"] is not None]
    values = [row["reliability"] for row in finished]
    lines = []
    if len(values) == 1:
        lines.append(with_error(values[0], finished[0]["reliability_se"]))
    elif values:
        lines.append(f"{measured(sum(values) / len(values))}\n{measured(min(values))} to {measured(max(values))}, {len(values)} seeds")
    lines += [_unfinished(row) for row in trials if row not in finished]
    return "\n".join(lines) or MISSING


def _unfinished(row: Mapping[str, Any]) -> str:
    if row["status"] == TrialStatus.STOPPED:
        return f"{measured(row['unknown_accuracy'])} {STOPPED_MARK}"
    return "not measured" if row["status"] == TrialStatus.COMPLETED else str(row["status"])
