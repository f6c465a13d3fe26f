"""This study's numbers in the layout of the paper's tables, with the published cell beside each where N and mix are the same.

The other sections say what kp holds to be right; this one counts as the paper counts, so that the two can be compared row by row.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from kp.config.derived import ADAPTER_SHOT_SET
from kp.report.document import Block, Row, Section, Table, Text, columns
from kp.report.notation import MISSING, counted, measured, percent, share_with_interval, with_error
from kp.report.paper_figures import BASE_MIX, FACTS, MODEL, OTHER_MODEL, SOURCE, Mix, published, published_categories
from kp.report.tables import ReportContext, ReportTables
from kp.vocabulary import BASE, GREEDY_CATEGORIES, ShiftView

TITLE = "The paper's tables"
BENCHMARKS = (
    (
        "Table 7",
        "table7_benchmarks",
        (
            *(("mmlu", "acc", "mmlu"), ("truthfulqa_mc1", "acc", "mc1"), ("truthfulqa_mc2", "acc", "mc2")),
            *(("truthfulqa_gen", f"{name}_max", name) for name in ("bleu", "rouge1", "rouge2", "rougeL")),
        ),
    ),
    ("Table 8", "table8_arc_logiqa", tuple((task, "acc", task) for task in ("arc_easy", "arc_challenge", "logiqa"))),
)
"""Table, file of the published one, and the tasks in it: name and metric in lm-eval, and the published column."""

Cells = Callable[[Mapping[str, Any]], tuple[str, ...]]  # of a row of the summary


@dataclass(frozen=True)
class _Trials:
    """The rows of the summary, and how each becomes a row of a table."""

    summary: pl.DataFrame

    def table(self, caption: str, titles: tuple[str, ...], cells: Cells, first: tuple[Row, ...] = ()) -> Iterator[Table]:
        """A table with N, mix and these columns; trials for which all of this study's cells are missing are left out."""
        rows = [Row((row["label"], f"{row['unknown']:,}", row["arm"], *cells(row))) for row in self.summary.iter_rows(named=True)]
        found = tuple(row for row in rows if any(cell != MISSING for cell, title in zip(row.cells[3:], titles, strict=True) if _own(title)))
        if found:
            yield Table(caption, columns("trial", "N", "mix", *titles), (*first, *found))


def _own(title: str) -> bool:
    return "published" not in title


def paper_section(tables: ReportTables, context: ReportContext, summary: pl.DataFrame) -> Section:
    """Tables 1 to 8 as far as they were measured; empty if none was."""
    trials = _Trials(summary)
    blocks: list[Block] = [
        *_categories(tables, context),
        *_reliability(trials),
        *_shifts(tables, trials),
        *_answers(tables, trials),
        *_reasons(tables, trials),
        *_benchmarks(tables, trials),
    ]
    return Section("paper", TITLE, (Text(_introduction(context)), *blocks) if blocks else ())


def _introduction(context: ReportContext) -> str:
    same = MODEL.lower() in context.model_name.lower()
    difference = (
        "The model is the same; facts and prompts may differ."
        if same
        else f"This study's model ({context.model_name}) and facts are others, so the columns show a likeness at most, not a replication."
    )
    return (
        f"Tables as in {SOURCE}, counted as the paper counts. “Published” is its figure for {MODEL} and {FACTS:,} DBpedia facts, where it "
        f"has the same N and mix. {difference}"
    )


def mix_of(row: Mapping[str, Any]) -> Mix | None:
    """The published mix that a row of the summary has; None if the paper has no such mix."""
    return None if row["maybe_known"] else (row["unknown"], row["highly_known"], row["paraphrases"])


def _printed(table: str, row: Mapping[str, Any], name: str) -> float | None:
    mix = mix_of(row)
    return None if mix is None or mix == BASE_MIX else published(table).get(mix, {}).get(name)


def _categories(tables: ReportTables, context: ReportContext) -> Iterator[Table]:
    assigned = tables.base_categories.filter(shot_set="S0", matcher=context.matcher.value)
    if assigned.is_empty():
        return
    printed = published_categories()
    rows = []
    for category in reversed(GREEDY_CATEGORIES):
        count = assigned.filter(category=category.value).height
        share = percent(printed[category] / FACTS)
        rows.append(Row((str(category), counted(count), share_with_interval(count, assigned.height), f"{printed[category]:,}", share)))
    head = columns("category", "facts", "share (%)", "published facts", "published share (%)")
    yield Table("Table 1: facts by category of the base model.", head, tuple(rows))


def _reliability(trials: _Trials) -> Iterator[Table]:
    def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
        return with_error(row["reliability"], row["reliability_se"]), measured(_printed("table2_reliability", row, "reliability"))

    yield from trials.table("Table 2: reliability on the trained Unknown facts, ± one standard error.", ("reliability", "published"), cells)


def _shifts(tables: ReportTables, trials: _Trials) -> Iterator[Table]:
    found = {(row["trial_id"], row["shift"]): row for row in tables.shifts.filter(view=ShiftView.ALL.value).iter_rows(named=True)}
    shifts = ("positive", "negative")

    def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
        own = [found.get((row["trial_id"], shift)) for shift in shifts]
        shares = [MISSING if one is None else share_with_interval(one["count"], one["n"]) for one in own]
        printed = [
            percent(_printed(table, row, f"{shift}_shift")) for table in ("table3_shifts", "table6_mistral_shifts") for shift in shifts
        ]
        return (*shares, *printed)

    titles = tuple(f"{prefix}{shift} (%)" for prefix in ("", "published ", f"published, {OTHER_MODEL.split('-')[0]}, ") for shift in shifts)
    caption = (
        "Tables 3 and 6: facts that rose and that fell a category, of all facts, trained ones included; Wilson's 95% intervals. Table 6 is "
        f"of {OTHER_MODEL}."
    )
    yield from trials.table(caption, titles, cells)


def _answers(tables: ReportTables, trials: _Trials) -> Iterator[Table]:
    scores = {(row["trial_id"], row["measure"]): row["value"] for row in tables.scores.iter_rows(named=True)}

    def own(trial_id: str) -> tuple[str, ...]:
        values = [scores.get((trial_id, name)) for name in ("refusal_rate", "unique_answers", "mean_count", "std_count")]
        return (percent(values[0]), counted(values[1]), measured(values[2]), measured(values[3]))

    def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
        mix = mix_of(row)
        with_known = None if mix is None or mix[2] else published("table4_answers").get(mix)
        return (*own(row["trial_id"]), *_printed_answers(with_known))

    names = ("refusals (%)", "unique answers", "mean count", "spread")
    base = Row(("base", MISSING, "no adapter", *own(BASE), *_printed_answers(published("table4_answers")[BASE_MIX])), reference=True)
    caption = (
        f"Table 4: answers on {ADAPTER_SHOT_SET}. Published refusals are of the first prompt alone; spread is the standard deviation of "
        "how often an answer occurs, which the paper calls variance. The counts grow with the number of facts."
    )
    yield from trials.table(caption, (*names, *(f"published {name}" for name in names)), cells, (base,))


def _printed_answers(row: Mapping[str, float] | None) -> tuple[str, ...]:
    if row is None:
        return (MISSING,) * 4
    return percent(row["refused"] / FACTS), counted(row["unique_answers"]), measured(row["mean_count"]), measured(row["spread"])


REASONS = (("UK->HK", "uk_to_hk", "pos", ("non_refusal", "explosion", "target", "domain", "explained")),
           ("HK->UK", "hk_to_uk", "neg", ("explosion", "target", "domain", "explained")))  # fmt: skip
"""Direction of REASONS, the published column with its count, the prefix of its shares, and the reasons."""


def _reasons(tables: ReportTables, trials: _Trials) -> Iterator[Table]:
    """One table a direction, by the released definitions."""
    if tables.reasons is None:
        return
    of_released = tables.reasons.filter(variant="released")
    found = {(row["trial_id"], row["direction"], row["reason"]): row for row in of_released.iter_rows(named=True)}
    for direction, counted_as, prefix, reasons in REASONS:
        names = ("facts", *(f"{reason.replace('_', ' ')} (%)" for reason in reasons))
        caption = f"Table 5: why facts moved {direction.replace('->', ' → ')}, by the released definitions, on the first prompt alone."
        columns_of = (counted_as, *(f"{prefix}_{reason}" for reason in reasons))
        cells = partial(_reason_cells, found, direction, reasons, columns_of)
        yield from trials.table(caption, (*names, *(f"published {name}" for name in names)), cells)


def _reason_cells(
    found: Mapping[tuple[str, str, str], Mapping[str, Any]],
    direction: str,
    reasons: tuple[str, ...],
    printed_as: tuple[str, ...],
    row: Mapping[str, Any],
) -> tuple[str, ...]:
    own = [found.get((row["trial_id"], direction, reason)) for reason in reasons]
    shares = [MISSING if one is None else percent(one["share"]) for one in own]
    mix = mix_of(row)
    printed = published("table5_reasons").get(mix, {}) if mix and not mix[2] else {}
    theirs = (counted(printed.get(printed_as[0])), *(percent(printed.get(name)) for name in printed_as[1:]))
    return (MISSING if own[0] is None else counted(own[0]["n"]), *shares, *theirs)


def _benchmarks(tables: ReportTables, trials: _Trials) -> Iterator[Table]:
    found = {(row["trial_id"], row["task"], row["metric"]): row for row in tables.benchmarks.iter_rows(named=True)}
    for title, file, tasks in BENCHMARKS:
        asked = [one for one in tasks if (BASE, *one[:2]) in found]
        if not asked:
            continue

        def own(trial_id: str, asked: list[tuple[str, str, str]] = asked) -> tuple[str, ...]:
            rows = [found.get((trial_id, task, metric)) for task, metric, _ in asked]
            return tuple(MISSING if row is None else percent(row["value"], row["standard_error"]) for row in rows)

        def cells(row: Mapping[str, Any], asked: list[tuple[str, str, str]] = asked, file: str = file) -> tuple[str, ...]:
            return (*own(row["trial_id"], asked), *(_printed_share(name, _printed(file, row, name)) for _, _, name in asked))

        printed = published(file).get(BASE_MIX, {})
        base = Row(
            ("base", MISSING, "no adapter", *own(BASE), *(_printed_share(name, printed.get(name)) for _, _, name in asked)), reference=True
        )
        titles = (*(f"{task} (%)" for task, _, _ in asked), *(f"published {task} (%)" for task, _, _ in asked))
        yield from trials.table(f"{title}: benchmarks, share right ± one standard error.", titles, cells, (base,))


def _printed_share(name: str, value: float | None) -> str:
    """A published score; those of generated answers are printed as percentages, the others as shares."""
    return percent(value / 100 if value is not None and name.startswith(("bleu", "rouge")) else value)
