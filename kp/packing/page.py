"""`pack.md`: what came of it, in the order in which its user asks."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from kp.metrics.scale_curve import ScaleMeasure
from kp.packing.choice import Ending, Told
from kp.report.document import Block, Document, Points, Row, Section, Table, Text, columns
from kp.report.notation import MISSING, learning_rate, percent, points_interval
from kp.vocabulary import Verdict

MOST_ROWS = 20  # of a table of facts on the page; the files have all
VERDICT_WORDS = {
    Verdict.WITHIN_MARGIN: "no harm beyond the margin",
    Verdict.HARM_SHOWN: "harm shown",
    Verdict.NOT_RESOLVED: "not resolved",
}


def statement(told: Told, taught: int) -> list[str]:
    """What came of it, in sentences; the first stands out."""
    packed = f"{100 * told.reliability_told:.1f}% of the answers to the {taught:,} taught facts are right"
    at = "" if told.scale == 1 else f", at {told.scale:g} of its change of the weights"
    points = f"{100 * told.margin:g} points"
    match told.ending:
        case Ending.PACKED:
            first = f"Packed with no harm beyond {points}: {packed}{at}."
        case Ending.UNRESOLVED:
            first = f"Packed, but whether it harms by more than {points} is not resolved: {packed}{at}."
        case Ending.HARMFUL:
            first = f"None found that packs the facts without harm; the nearest one does harm: {packed}{at}."
        case Ending.NOT_LEARNED:
            first = f"None found that packs the facts to {100 * told.target:g}%; the nearest one: {packed}{at}."
    return [first, _loss(told), *_remedy(told)]


def _loss(told: Told) -> str:
    if told.loss is None:
        return "No control fact that the base knows is in the test half, so nothing is said of harm."
    interval = "" if told.lower is None else f" (95% interval {points_interval(told.lower)} to {points_interval(told.upper)})"
    return (
        f"On {told.controls:,} control facts that had no part in the choice, its loss of right answers is "
        f"{points_interval(told.loss)} points{interval}: {_verdict(told)}."
    )


def _verdict(told: Told) -> str:
    if told.verdict is Verdict.HARM_SHOWN and told.below_margin:
        return "harm shown, but below the margin"
    return VERDICT_WORDS[told.verdict]


def _remedy(told: Told) -> list[str]:
    needed = told.controls_needed
    if told.verdict is Verdict.NOT_RESOLVED and needed is not None:
        return [
            f"If the loss stayed what it is, about {needed:,} control facts would show that it lies below {100 * told.margin:g} points: "
            f"--controls {needed}, or a longer table with --keep."
        ]
    if told.verdict is Verdict.NOT_RESOLVED and told.loss is not None:
        return ["The loss that was found is not below the margin, so more control facts alone would not help: try more trials."]
    if told.ending is Ending.NOT_LEARNED:
        return ["More epochs (training.epochs), higher rates (search.learning_rate) or more trials (--trials) may find one."]
    return []


def pack_page(
    name: str, model: str, told: Told, nearest: Sequence[dict[str, Any]], curve: pl.DataFrame, learned: pl.DataFrame, lost: pl.DataFrame,
    not_kept: Sequence[str],
) -> Document:  # fmt: skip
    """The page; `nearest` are the summary's rows of all finished trials, best first, `not_kept` questions that the base cannot lose."""
    taught = learned.filter(state="taught")
    known = learned.filter(state="already known")
    sections = [
        Section("learned", "What it learned", (_learned(taught), *_known(known))),
        Section("lost", "What it lost", (_lost(lost), *_not_kept(not_kept))),
        Section("trials", "The trials, the nearest first", (_trials(nearest, told),)),
        Section("scales", "Less of the chosen adapter", (_scales(curve, told),)),
    ]
    return Document(
        f"{name}: facts packed into {model}", _subtitle(taught, known, lost), tuple(statement(told, len(taught))), None, tuple(sections)
    )


def _subtitle(taught: pl.DataFrame, known: pl.DataFrame, lost: pl.DataFrame) -> str:
    return f"{len(taught):,} facts taught · {len(known):,} known already · harm told on {len(lost):,} control facts"


def _learned(taught: pl.DataFrame) -> Table:
    rows = tuple(_fact_row(row) for row in taught.head(MOST_ROWS).iter_rows(named=True))
    caption = f"Share of right answers (%) over the prompts of S1 and S2, the worst first; learned.csv has all {len(taught):,}."
    return Table(caption, columns("fact", "answer", "base", "adapter", words=2), rows)


def _fact_row(row: dict[str, Any]) -> Row:
    return Row((row["question"], row["answer"], percent(row["base"]), percent(row["adapter"])))


def _known(known: pl.DataFrame) -> list[Block]:
    if known.is_empty():
        return []
    listed = tuple(known["question"].head(MOST_ROWS))
    more = f" The first {MOST_ROWS} are:" if len(known) > MOST_ROWS else ""
    return [
        Text(f"The model knew {len(known):,} of the facts already, at least now and then; they were not trained.{more}"),
        Points(listed),
    ]


def _lost(lost: pl.DataFrame) -> Table:
    fallen, risen = lost.filter(pl.col("change") < 0), lost.filter(pl.col("change") > 0)
    rows = tuple(Row((*_fact_row(row).cells, points_interval(row["change"]))) for row in fallen.head(MOST_ROWS).iter_rows(named=True))
    caption = (
        f"{len(fallen):,} of {len(lost):,} control facts are answered right less often than by the base, {len(risen):,}"
        " more often; answers move with every change of a model. Percent and points; lost.csv has all."
    )
    return Table(caption, columns("fact", "answer", "base", "adapter", "change", words=2), rows)


def _not_kept(questions: Sequence[str]) -> list[Block]:
    if not questions:
        return []
    return [
        Text(f"{len(questions):,} facts of the table to keep are hardly known to the base, so no loss can be told of them:"),
        Points(tuple(questions[:MOST_ROWS])),
    ]


def _trials(nearest: Sequence[dict[str, Any]], told: Told) -> Table:
    rows = tuple(
        Row(
            (
                row["arm"],
                str(row["rank"]),
                learning_rate(row["learning_rate"]),
                str(row["epochs"]),
                percent(row["reliability"]),
                MISSING if row["dev_loss"] is None else points_interval(row["dev_loss"]),
                "chosen" if row["trial_id"] == told.trial_id else "",
            )
        )
        for row in nearest
    )
    caption = "Reliability (%) on S1 and loss of known dev control facts (points), by which the choice was made."
    return Table(caption, columns("mix", "rank", "learning rate", "epochs", "reliability", "dev loss", ""), rows)


def _scales(curve: pl.DataFrame, told: Told) -> Table:
    of_trial = curve.filter(trial_id=told.trial_id)
    rows = []
    for scale in of_trial["scale"].unique().sort():
        at = {row["measure"]: row for row in of_trial.filter(scale=scale).iter_rows(named=True)}
        test = at[ScaleMeasure.TEST_LOSS.value]
        rows.append(
            Row(
                (
                    f"{scale:g}",
                    percent(at[ScaleMeasure.RELIABILITY.value]["value"]),
                    _points(at[ScaleMeasure.DEV_LOSS.value]["value"]),
                    MISSING if test["value"] is None else points_interval(test["value"], test["lower"], test["upper"]),
                    "chosen" if scale == told.scale else "",
                )
            )
        )
    caption = "The adapter with a part of its change of the weights, from the same training. The scale is chosen on S1 and dev facts."
    return Table(caption, columns("scale", "reliability on S1", "dev loss", "test loss (95% interval)", ""), tuple(rows))


def _points(value: float | None) -> str:
    return MISSING if value is None else points_interval(value)
