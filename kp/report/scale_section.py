"""Adapters at several scales of their change of the weights: what they still know, what they still cost, and the best scale of each."""

import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from kp.metrics.scale_curve import ScaleMeasure, best_scale
from kp.report.document import Block, Figure, Row, Section, Table, Text, columns
from kp.report.effects_section import VERDICTS
from kp.report.figure_data import THICK, Line, LineKey, LinePanel, LinePanels, arm_styles
from kp.report.notation import MISSING, percent, points_interval
from kp.report.tables import ReportTables
from kp.report.winners import Evidence
from kp.vocabulary import Verdict

Curve = Mapping[tuple[float, str], Mapping[str, Any]]  # rows of SCALE_CURVE of one trial, by scale and measure

HEAD = ("trial", "scale", "reliability (%)", "on S2 (%)", "loss, dev half (points)", "loss, test half (points)", "refusals (points)")


def scale_section(tables: ReportTables, found: Evidence, margin: float, pictures: set[str]) -> Section:
    """One row a trial and scale; empty if the study measures adapters at scale 1 alone."""
    curve = tables.scale_curve
    if curve is None or curve.is_empty():
        return Section("scales", "Scales", ())
    blocks: list[Block] = [Text(_explained(found, margin)), Text(_chosen(curve, found, margin))]
    if "scales" in pictures:
        seen = (
            f"Share of packed facts answered right on S1 against the loss of {found.known_facts}: a line a trial, a marker a scale, the "
            "largest on the right. Up and to the left is better. Colour is the mix."
        )
        blocks.append(Figure("scales", seen))
    rows = tuple(row for trial in _measured(curve, found) for row in _rows(trial, curve, margin))
    caption = (
        "A scale s multiplies what the adapter adds to the weights. Losses with 95% intervals, each for itself; the verdict is that of the "
        "test half. An arrow marks the scale chosen on the dev half."
    )
    blocks.append(Table(caption, columns(*HEAD, "verdict"), rows))
    return Section("scales", "Less of an adapter", tuple(blocks))


def _explained(found: Evidence, margin: float) -> str:
    where = "the dev half of the control facts" if found.controls else "known facts that no trial trained on"
    told = "on the test half and on S2" if found.controls else "on the same facts: the study has no control facts to tell it on"
    return (
        "Every adapter was also measured at smaller scales, from the same training. The chosen scale of a trial is the one with the "
        f"highest reliability on S1 whose loss of {where} is at most {100 * margin:g} points; what it costs is reported {told}."
    )


def _chosen(curve: pl.DataFrame, found: Evidence, margin: float) -> str:
    """One sentence on what the chosen scales bring."""
    best = {trial["trial_id"]: best_scale(curve, trial["trial_id"], margin) for trial in _measured(curve, found)}
    below = [scale for scale in best.values() if scale is not None and scale < 1]
    whole = sum(scale == 1 for scale in best.values())
    none = sum(scale is None for scale in best.values())
    parts = [f"a scale below 1 was chosen for {len(below)} of {len(best)} trials"]
    parts += [f"for {whole} all of the adapter"] if whole else []
    parts += [f"for {none} no scale lost as little"] if none else []
    saved = " Those below 1 are saved as adapters of their own, beside the others." if below else ""
    return f"{', '.join(parts).capitalize()}.{saved}"


def _measured(curve: pl.DataFrame, found: Evidence) -> list[dict[str, Any]]:
    return found.summary.filter(pl.col("trial_id").is_in(curve["trial_id"].unique().implode())).to_dicts()


def _by_measure(curve: pl.DataFrame, trial_id: str) -> Curve:
    return {(row["scale"], row["measure"]): row for row in curve.filter(trial_id=trial_id).iter_rows(named=True)}


def _rows(trial: Mapping[str, Any], curve: pl.DataFrame, margin: float) -> list[Row]:
    of_trial, chosen = _by_measure(curve, trial["trial_id"]), best_scale(curve, trial["trial_id"], margin)
    scales = sorted({scale for scale, _ in of_trial})
    return [Row((trial["label"], f"{'→ ' if scale == chosen else ''}{scale:g}", *_cells(of_trial, scale))) for scale in scales]


def _cells(of_trial: Curve, scale: float) -> tuple[str, ...]:
    cells = []
    for measure in (ScaleMeasure.RELIABILITY, ScaleMeasure.RELIABILITY_S2):
        row = of_trial.get((scale, measure))
        cells.append(MISSING if row is None else percent(row["value"], row["standard_error"]))
    for measure in (ScaleMeasure.DEV_LOSS, ScaleMeasure.TEST_LOSS, ScaleMeasure.REFUSAL_CHANGE):
        row = of_trial.get((scale, measure))
        cells.append(MISSING if row is None else points_interval(row["value"], row["lower"], row["upper"]))
    verdict = (of_trial.get((scale, ScaleMeasure.TEST_LOSS)) or {}).get("verdict_alone")
    return (*cells, VERDICTS[Verdict(verdict)] if verdict else MISSING)


def scale_lines(tables: ReportTables, summary: pl.DataFrame) -> LinePanels | None:
    """Reliability against loss over the scales, a line a trial, in percent and points; None without scales."""
    curve = tables.scale_curve
    if curve is None or curve.is_empty():
        return None
    styles = arm_styles(summary["arm"].to_list())
    lines = [_line(row, _by_measure(curve, row["trial_id"]), *styles[row["arm"]]) for row in summary.iter_rows(named=True)]
    drawn = tuple(line for line in lines if line is not None)
    if not drawn:
        return None
    ends = [value for line in drawn for value in line.x]
    low, high = math.floor(min(0.0, *ends)), math.ceil(max(1.0, *ends))
    step = next(step for step in (1, 2, 5, 10, 20, 50) if (high - low) / step <= 10)
    ticks = tuple(range(-step * (-low // step), high + 1, step))
    groups = {line.group: line for line in drawn}
    keys = tuple(LineKey(name, name, line.colour, line.marker) for name, line in groups.items())
    title = "loss of known facts (points)"
    return LinePanels(title, "packed facts right (%)", (low - 0.5, high + 0.5), ticks, (-3, 103), (LinePanel("", drawn),), keys)


def _line(row: Mapping[str, Any], of_trial: Curve, colour: str, marker: str) -> Line | None:
    scales = sorted({scale for scale, _ in of_trial})
    pairs = [(of_trial.get((scale, ScaleMeasure.LOSS)), of_trial.get((scale, ScaleMeasure.RELIABILITY))) for scale in scales]
    known = [(loss["value"], learned["value"]) for loss, learned in pairs if loss and learned and loss["value"] is not None]
    if not known:
        return None
    xs, ys = (tuple(100 * value for value in values) for values in zip(*known, strict=True))
    return Line(f"{row['label']}", row["arm"], colour, "solid", marker, THICK, xs, ys, (), (), cut_short=False)
