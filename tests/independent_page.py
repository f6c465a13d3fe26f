"""The numbers printed in a report.md, compared with those computed once more from its tables, at the precision that is printed."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.independent_numbers import Row, Study, effect_rows
from tests.independent_report import SCORES, Numbers, times
from tests.independent_statistics import bowker, wilson

NUMBER = re.compile(r"(?<![\w.])[+\u2212-]?\d[\d,]*(?:\.\d+)?(?:e[+\u2212-]?\d+)?")
NAMED = re.compile(r"“[^”]*”|\b(?:S\d|MC\d)\b")  # mixes and shot sets, whose numbers are names
COLUMNS = (("net_change", None, False), ("net_change", None, True), ("crossed", "negative", True), ("crossed", "positive", True))
SHIFTS = ("UK->HK", "UK->MK", "MK->HK", "positive", "HK->UK", "HK->MK", "MK->UK", "negative")
PLACEBO = "placebo: the base once more"
OPPOSITES = (("UK->HK", "HK->UK"), ("UK->MK", "MK->UK"), ("MK->HK", "HK->MK"))
VIEWS = {"As the paper": "all", "Over the facts at risk": "at_risk", "Without the facts": "untrained", "Over control facts": "control"}
WORDS = {"harm_shown": "harm shown", "within_margin": "no harm beyond the margin shown", "not_resolved": "not resolved"}
DELTAS = {"completions Δ (points)": "completions", "MMLU-dev Δ (points)": "mmlu_dev", "MC1 Δ (points)": "mc1", "MC2 Δ (points)": "mc2"}

Table = tuple[str, list[dict[str, str]]]  # caption, and rows by column


def tables_of(page: Path) -> dict[str, list[Table]]:
    """The tables of a Markdown page by the title of their section."""
    found: dict[str, list[Table]] = {}
    title, caption, head = "", "", None
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            title, head = line[3:], None
        elif line.startswith("| ---"):
            continue
        elif line.startswith("| "):
            cells = [_plain(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if head is None:
                head = cells
                found.setdefault(title, []).append((caption, []))
            else:
                found[title][-1][1].append(dict(zip(head, cells, strict=True)))
        elif line:
            caption, head = _plain(line), None
    return found


def _plain(text: str) -> str:
    for written, meant in (("\\|", "|"), ("\\*", "*"), ("\\_", "_"), ("&lt;", "<"), ("<br>", "\n")):
        text = text.replace(written, meant)
    return text.strip()


def misprinted(text: str, expected: Sequence[float | None], agrees: Callable[[str, float], bool] | None = None) -> str:
    """What is wrong with the numbers in a text, in words; empty if they are these, rounded as they are written. None is not printed.

    `agrees` says whether a written number is a value, `is_rounded` if none is given.
    """
    numbers = NUMBER.findall(NAMED.sub("", text))
    wanted = [number for number in expected if number is not None]
    if len(numbers) == len(wanted) and all((agrees or is_rounded)(*pair) for pair in zip(numbers, wanted, strict=True)):
        return ""
    return f"“{text}” should have {', '.join(f'{number:.6g}' for number in wanted) or 'no number'}".replace("\n", " ")


def is_rounded(written: str, value: float) -> bool:
    """Whether a written number is this one, rounded where it ends, and has enough digits: below 100, whole numbers are exact."""
    digits = written.replace(",", "").replace("\u2212", "-")
    if written.startswith("-"):
        return False  # a hyphen is no minus sign
    if "e" in digits:
        return abs(float(digits) - value) <= 5e-3 * abs(value)
    decimals = len(digits.partition(".")[2])
    if decimals == 0 and abs(value) < 99.5 and abs(value - round(value)) > 1e-9:
        return False
    return abs(float(digits) - value) <= 0.5 * 10**-decimals + 1e-9


def interval(row: Row, *more: float | None, sign: int = 1) -> list[float | None]:
    """What a cell with a difference in points prints: value, lower and upper limit, then `more`."""
    ends = ("lower", "upper") if sign > 0 else ("upper", "lower")
    limits = [times(row[end], 100 * sign) for end in ends]
    return [times(row["value"], 100 * sign), *(limits if None not in limits else []), *more]


def wrong_page(numbers: Numbers, page: Path) -> list[str]:
    """What a report prints that its tables do not hold, in words; empty if all agrees."""
    found = tables_of(page)
    labels = {row["label"]: row["trial_id"] for row in numbers.study.tables["summary"]}
    shifts, answers = (found["Shifts"], found["Answers"]) if numbers.study.adapters else ([], [])  # adapters may be asked nothing
    checks = (
        ("Trials", (_trials(numbers, rows) for _, rows in found["Trials"])),
        ("Effects", (_effects(numbers, rows, labels) for title in found if title.startswith("Effects") for _, rows in found[title])),
        ("Mixes", (_mixes(numbers, rows) for _, rows in found.get("Mixes compared", []))),
        ("Shifts", (_shifts(numbers, caption, rows, labels) for caption, rows in shifts)),
        ("Answers", (_answers(numbers, rows, labels) for _, rows in answers[:1])),
        ("Changes of answers", (_changes(numbers, rows, labels) for _, rows in answers[1:])),
        ("Benchmarks", (_benchmarks(numbers, rows, labels) for _, rows in (found["Benchmarks"] if numbers.benchmarks else ()))),
    )
    return [f"{title}: {wrong}" for title, tables in checks for table in tables for wrong in table if wrong]


def _trials(numbers: Numbers, rows: list[dict[str, str]]) -> Iterator[str]:
    base = numbers.scores["base", "refusal_rate"]["value"]
    if {row["trial"] for row in rows} != {"base", *numbers.trials}:
        yield "the trials are not those of trials.parquet"
    for cells in rows:
        trial = numbers.trials.get(cells["trial"])
        if trial is None:
            yield misprinted(cells["refusals (%)"], [100 * base])
            continue
        for column in ("N", "rank", "learning rate"):
            yield misprinted(cells[column], [trial["unknown" if column == "N" else column.replace(" ", "_")]])
        yield misprinted(cells["epochs"], [trial["epochs"], trial["max_epochs"]])
        yield misprinted(cells["unknown_ accuracy"], [trial["unknown_accuracy"]])
        yield from _measured(numbers, cells, numbers.summary.get(trial["trial_id"]), trial["trial_id"])


def _measured(numbers: Numbers, cells: dict[str, str], row: dict[str, Any] | None, trial: str) -> Iterator[str]:
    """The cells of what was measured after training; dashes if nothing was."""
    if row is None:
        names = (
            "reliability ± s.e.",
            "facts packed",
            "loss of known facts (points)",
            "refusals (%)",
            *(name for name in DELTAS if name in cells),
        )
        yield from (misprinted(cells[name], []) for name in names)
        return
    loss = cells["loss of known facts (points)"]
    yield misprinted(cells["reliability ± s.e."], [row["reliability"], row["reliability_se"]])
    yield misprinted(cells["facts packed"], [row["facts_packed"]])
    yield misprinted(loss, interval(numbers.net_change(trial, "control"), sign=-1))
    if loss.endswith("*") != (row["knowledge_loss_verdict"] == "harm_shown"):
        yield f"the star of {trial} is wrong: {loss}"
    yield misprinted(cells["refusals (%)"], [100 * row["refusal_rate"]])
    for title, name in DELTAS.items():
        if title not in cells:  # of a score on which the base guesses
            continue
        difference = numbers.differences.get((trial, *SCORES[name]))
        yield misprinted(cells[title], interval(difference) if difference else [])


def _effects(numbers: Numbers, rows: list[dict[str, str]], labels: dict[str, str]) -> Iterator[str]:
    again = [PLACEBO] if "placebo" in numbers.study.tables else []
    if [row["trial"] for row in rows] != again + [label for label, trial in labels.items() if trial in numbers.study.adapters]:
        yield "the rows are not the measured trials"
    subset = "control" if numbers.controls else "untrained"
    effects = numbers.effects | (_placebo_effects(numbers.study) if again else {})
    for cells in rows:
        trial = "placebo" if cells["trial"] == PLACEBO else labels[cells["trial"]]
        titles = [title for title in cells if title not in ("trial", "verdict")]
        for title, (effect, shift, at_risk) in zip(titles, COLUMNS, strict=True):
            row = effects[trial, subset, at_risk, effect, shift]
            yield misprinted(cells[title].replace("\n", " "), [] if row["value"] is None else interval(row, row["n"]))
        yield from _verdict(cells["verdict"], effects[trial, subset, True, "net_change", None])


def _placebo_effects(study: Study) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The base asked once more, as if it were a trial that trained on nothing."""
    outcomes = [row for row in study.tables["outcomes"] if row["trial_id"] == "base"] + study.tables["placebo"]
    return effect_rows(Study({**study.tables, "outcomes": outcomes}, {}, study.margin))


def _verdict(cell: str, row: Row) -> Iterator[str]:
    words, _, resolvable = cell.partition("\n")
    if words != WORDS.get(row["verdict"], "–"):
        yield f"“{words}” should be {row['verdict']}"
    yield misprinted(resolvable, [times(row["resolvable"], 100)] if row["verdict"] == "not_resolved" else [])


def _mixes(numbers: Numbers, rows: list[dict[str, str]]) -> Iterator[str]:
    for cells in rows:
        first, _, second = cells["mixes"].partition("\n")
        row = numbers.printed_arms[first, second]
        yield misprinted(cells["trials of each"], [row["pairs"]])
        yield misprinted(cells["facts"], [row["facts"]])
        yield misprinted(cells["first keeps more (points)"], interval(row))
        yield misprinted(cells["p (Holm)"], [row["p_holm"]])
        if cells["resolved"] != ("yes" if row["_resolved"] else "two seeds" if row["seeds"] == 2 else "no"):
            yield f"{first} and {second}: resolved should be {row['_resolved']}"
        for title, name in (("steps", "steps"), ("exposures a fact", "exposures"), ("final learning rate", "final_rate")):
            yield misprinted(cells[title], [row[f"first_{name}"], row[f"second_{name}"]])


def _shifts(numbers: Numbers, caption: str, rows: list[dict[str, str]], labels: dict[str, str]) -> Iterator[str]:
    (view,) = (view for words, view in VIEWS.items() if caption.startswith(words))
    expected = ["noise (base twice)", *(label for label, trial in labels.items() if trial in numbers.study.adapters)]
    if [row["trial"] for row in rows] != expected:
        yield f"{view}: the rows are not the noise and the measured trials"
    for cells in rows:
        trial = labels.get(cells["trial"], "noise")
        of_view = view if trial != "noise" or view == "at_risk" else "all"  # as the captions say
        counts = {shift: numbers.shifts[trial, of_view, shift] for shift in SHIFTS}
        for shift, row in counts.items():
            count, n = row["count"], row["n"]
            rate = [100 * count / n, *(100 * limit for limit in wilson(count, n))] if n else []
            yield misprinted(cells[shift.replace("->", "→")].replace("\n", " "), [*rate, count, n])
        yield misprinted(cells["p (Bowker)"], [bowker([(counts[there]["count"], counts[back]["count"]) for there, back in OPPOSITES])])


def _answers(numbers: Numbers, rows: list[dict[str, str]], labels: dict[str, str]) -> Iterator[str]:
    for cells in rows:
        model = labels.get(cells["model"], "base")
        for title, measure in (("refusals (%)", "refusal_rate"), ("right (%)", "accuracy")):
            row = numbers.scores[model, measure]
            yield misprinted(cells[title], [100 * row["value"], times(row["standard_error"], 100)])
        untrained = numbers.effects.get((model, "untrained", False, "net_change", None))
        sides = [100 * untrained[side] for side in ("adapter", "base")] if untrained else []
        yield misprinted(cells["right, untrained (%), base on the same"], sides)


def _changes(numbers: Numbers, rows: list[dict[str, str]], labels: dict[str, str]) -> Iterator[str]:
    """The one statistic of raw answers that outcomes decide; the others are checked in test_independent_answers."""
    if [row["trial"] for row in rows] != [label for label, trial in labels.items() if trial in numbers.study.adapters]:
        yield "the rows are not the measured trials"
    for cells in rows:
        trial = labels[cells["trial"]]
        sides = [100 * numbers.scores[model, "refusal_rate"]["value"] for model in ("base", trial)]
        yield misprinted(cells["refusals (points)"].replace("\n", " "), interval(numbers.refusals[trial]) + sides)


def _benchmarks(numbers: Numbers, rows: list[dict[str, str]], labels: dict[str, str]) -> Iterator[str]:
    for cells in rows:
        key = labels.get(cells["model"], "base"), cells["task"].partition("\n")[0], cells["metric"]
        row, difference = numbers.benchmarks[key], numbers.differences.get(key)
        yield misprinted(cells["value (%)"].partition(" ±")[0], [100 * row["value"]])
        yield misprinted(cells["n"], [row["n"]])
        yield misprinted(cells["difference to base (points)"], interval(difference) if difference else [])
        asked = numbers.study.tables["benchmarks"]
        (base,) = (one for one in asked if (one["trial_id"], one["task"], one["metric"]) == ("base", *key[1:]))
        guesses = _guesses(base)
        if guesses and difference:
            yield "" if cells["verdict"] == "base at chance" else f"a base that guesses has the verdict {cells['verdict']}"
        else:
            yield from _verdict(cells["verdict"], difference or {"verdict": None, "resolvable": None})


def _guesses(base: dict[str, Any]) -> bool:
    """Whether the base's score is not above chance by its 95% interval: of a share by the roots of Wilson's equation."""
    value, n, z = base["value"], base["n"], 1.959964
    if base["chance"] is None:
        return False
    if abs(value * n - round(value * n)) > 1e-6:
        return bool(value - z * base["standard_error"] <= base["chance"])
    middle, reach = value + z * z / (2 * n), z * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return bool((middle - reach) / (1 + z * z / n) <= base["chance"])
