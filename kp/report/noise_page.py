"""What `kp noise` found, as a page: how many facts change category when the base model is asked again."""

from collections.abc import Iterator, Mapping

import polars as pl

from kp.metrics.shifts import Shift
from kp.report.audit_page import RISING, Subject
from kp.report.document import Document, Row, Section, Table, columns
from kp.report.notation import counted, percent, share_with_interval
from kp.vocabulary import ShiftView

_TOTALS = (Shift.POSITIVE.value, Shift.NEGATIVE.value)
_VIEWS = {ShiftView.ALL: "over all facts", ShiftView.AT_RISK: "over the facts at risk, those whose category could have moved that way"}


def noise_page(subject: Subject, tables: Mapping[str, pl.DataFrame]) -> Document:
    """The page; `tables` are by the name of their file: noise_shifts, noise_spread, noise_transitions. The first section has the small
    tables that are also shown on the terminal."""
    shifts, spread = tables["noise_shifts"], tables["noise_spread"]
    several = spread.filter(pl.col("draws") > 1)  # one draw has no spread
    totals = several.filter(pl.col("shift").is_in(_TOTALS))
    sections = (
        Section("short", "In short", (_draws(shifts), *_spread(totals, "Positive and negative shifts"))),
        Section("shifts", "By shift", (*(_each_shift(shifts, view) for view in _VIEWS), *_spread(several, "Every shift"))),
        Section("transitions", "Transitions", (_transitions(tables["noise_transitions"]),)),
    )
    return Document("The base model against itself", str(subject), tuple(_sentences(spread)), None, sections)


def _sentences(spread: pl.DataFrame) -> Iterator[str]:
    rows = {(row["view"], row["shift"]): row for row in spread.iter_rows(named=True)}
    moved = []
    for shift, verb in ((Shift.NEGATIVE, "fall"), (Shift.POSITIVE, "rise")):
        everywhere, at_risk = rows[ShiftView.ALL.value, shift.value], rows[ShiftView.AT_RISK.value, shift.value]
        shares = f"{percent(everywhere['mean'])} %; {percent(at_risk['mean'])} % of the {at_risk['n']:,} at risk"
        moved.append(f"{counted(everywhere['mean_count'])} of {everywhere['n']:,} facts {verb} in category ({shares})")
    yield f"Asked again with other few-shot examples, {' and '.join(moved)}."
    draws = rows[ShiftView.ALL.value, Shift.NEGATIVE.value]["draws"]
    yield "One draw of the noise." if draws == 1 else f"Means over {draws} draws of the noise."
    yield "Nothing was trained: a study's shift is harm or gain only as far as it exceeds these."


def _draws(shifts: pl.DataFrame) -> Table:
    """Positive and negative shifts of every draw."""
    rows = []
    for (second,), part in shifts.group_by("second", maintain_order=True):
        cells = {(row["view"], row["shift"]): _rate(row) for row in part.iter_rows(named=True)}
        rows.append(Row((f"{part['first'][0]} → {second}", *(cells[view.value, shift] for shift in _TOTALS for view in _VIEWS))))
    caption = "Shifts of the untrained base model: % with Wilson's 95% interval, and how many facts of how many."
    return Table(caption, columns("draw", "positive, all", "positive, at risk", "negative, all", "negative, at risk"), tuple(rows))


def _each_shift(shifts: pl.DataFrame, view: ShiftView) -> Table:
    rows = []
    names = [shift.value for shift in Shift]
    for (second,), part in shifts.filter(view=view.value).group_by("second", maintain_order=True):
        cells = {row["shift"]: _rate(row) for row in part.iter_rows(named=True)}
        rows.append(Row((f"{part['first'][0]} → {second}", *(cells[name] for name in names))))
    caption = f"Every draw {_VIEWS[view]}: % with Wilson's 95% interval, and how many."
    return Table(caption, columns("draw", *(_arrow(name) for name in names)), tuple(rows))


def _spread(spread: pl.DataFrame, what: str) -> Iterator[Table]:
    rows = tuple(
        Row((
            _arrow(row["shift"]), row["view"].replace("_", " "), f"{row['draws']}", counted(row["mean_count"]), percent(row["mean"]),
            percent(row["standard_deviation"]), percent(row["minimum"]), percent(row["maximum"]),
        ))
        for row in spread.iter_rows(named=True)
    )  # fmt: skip
    caption = f"{what} over the draws, in %; the standard deviation (s.d.) is between draws."
    head = columns("shift", "over facts", "draws", "mean facts", "mean", "s.d.", "least", "greatest", words=2)
    if rows:
        yield Table(caption, head, rows)


def _transitions(transitions: pl.DataFrame) -> Table:
    rows = []
    for (second, before), part in transitions.group_by("second", "before", maintain_order=True):
        found = dict(part.select("after", "facts").iter_rows())
        rows.append(Row((f"{part['first'][0]} → {second}", str(before), *(f"{found[after]:,}" for after in RISING))))
    caption = "Facts by their category at the first measurement (rows) and at the second (columns)."
    return Table(caption, columns("draw", "first", *RISING, words=2), tuple(rows))


def _rate(row: Mapping[str, object]) -> str:
    count, n = float(str(row["count"])), int(str(row["n"]))
    return f"{share_with_interval(count, n)}\n{counted(count)} of {n:,}"


def _arrow(shift: str) -> str:
    return shift.replace("->", "→")
