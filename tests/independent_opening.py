"""The numbers in the opening paragraph of a report, sentence by sentence, compared with those computed once more from its tables."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.independent_capacity import wrong_most
from tests.independent_numbers import Row
from tests.independent_page import NUMBER, interval, misprinted
from tests.independent_report import SCORES, Numbers, mix, times

TITLES = {"completions": "completions", "MMLU-dev": "mmlu_dev", "misconceptions MC1": "mc1", "misconceptions MC2": "mc2"}
REACHED = 0.95

Expected = list[float | None]


def wrong_opening(numbers: Numbers, page: Path) -> list[str]:
    """The sentences whose numbers are not those of the tables, and those with numbers that nothing here expects."""
    blocks = page.read_text(encoding="utf-8").split("\n\n")[2:4]
    opening = " ".join(line.removeprefix("- ") for block in blocks if block.startswith(("**", "- ")) for line in block.splitlines())
    paragraph = opening.replace("**", "").replace("\\_", "_").replace("\\*", "*")
    sentences = re.split(r"(?<=[.])\s+(?=[A-Z“\d])", paragraph)
    return [wrong for sentence in sentences if (wrong := _wrong(numbers, sentence))]


def _wrong(numbers: Numbers, sentence: str) -> str:
    rules: dict[str, Callable[[Numbers, str], str]] = {
        "The most that this study packed": _packed,
        "No trial reached": _nearest,
        "Nothing was learned": _nearest,
        "Of the answers to the": _changed,
        "This ": _judged,
        "In excess of the noise": _fallen,
        "N = ": _reached,
        "Against “": _mixes,
        "Reliability on S1 and exposures": _mixes_learned,
        "Refusals: ": _refused,
        "Benchmarks against the base": _benchmarks,
        "Not measured": _missing,
        "Adapters answered no questions": wrong_most,
    }
    if re.match(r"\d+ of \d+ trials w", sentence):
        return _stopped(numbers, sentence)
    for words, rule in rules.items():
        if sentence.startswith(words):
            return rule(numbers, sentence)
    return f"not expected: “{sentence}”" if NUMBER.search(sentence) else ""


def _packed(numbers: Numbers, sentence: str) -> str:
    best = numbers.best
    if best is None:
        return f"no trial should be named first: “{sentence}”"
    row, trial = numbers.summary[best], numbers.trials[best]
    on = "reliability" if row["reliability_s2"] is None else "reliability_s2"
    packed: Expected = [0.8, row[on] * trial["unknown"], trial["unknown"], row[on], row[f"{on}_se"]]
    chosen: Expected = [] if on == "reliability" else [row["reliability"]]
    same = [name for name in numbers.finished if _setting(numbers.trials[name]) == _setting(trial)]
    reached = [numbers.reliability(name) for name in same]
    seeds: Expected = [trial["seed"], len(same), min(reached), max(reached)] if len(same) > 1 else []
    named = f"“{mix(trial)}”"
    return misprinted(sentence, [*packed, *chosen, *_knobs(trial), *seeds]) or ("" if named in sentence else f"{named} is not named")


def _setting(trial: Row) -> tuple[Any, ...]:
    return mix(trial), trial["unknown"], trial["rank"], trial["learning_rate"]


def _knobs(trial: Row) -> Expected:
    return [trial["rank"], trial["learning_rate"]]


def _nearest(numbers: Numbers, sentence: str) -> str:
    most = max(numbers.finished, key=numbers.reliability)
    row, trial = numbers.summary[most], numbers.trials[most]
    if numbers.best is not None or sentence.startswith("Nothing") == numbers.learned(most):
        return f"should not be said: “{sentence}”"
    reached: Expected = [row["reliability"], row["reliability_se"], trial["unknown"], *_knobs(trial)]
    return misprinted(sentence, reached if sentence.startswith("Nothing") else [0.8, *reached, row["facts_packed"]])


def _told(numbers: Numbers, effect: str, shift: str | None) -> dict[str, Any]:
    """The effect on the known facts by which the trial named first is told."""
    subset = "control_test" if numbers.controls else "untrained"
    return numbers.effects[numbers.best, subset, True, effect, shift]


def _in_text(row: dict[str, Any], sign: int = 1) -> Expected:
    """A value with its interval in a sentence, which names its 95%."""
    value, *limits = interval(row, sign=sign)
    return [value, 95, *limits] if limits else [value]


def _changed(numbers: Numbers, sentence: str) -> str:
    row = _told(numbers, "net_change", None)
    return misprinted(sentence, [row["n"], 100 * row["adapter"], 100 * row["base"], *_in_text(row)])


def _judged(numbers: Numbers, sentence: str) -> str:
    row, margin = _told(numbers, "net_change", None), 100 * numbers.study.margin
    match row["verdict_alone"]:
        case "harm_shown":
            return "" if sentence == "This shows harm." else f"harm is shown: “{sentence}”"
        case "within_margin":
            words, expected = "This rules out a harm of more than", [margin]
        case _:
            words, expected = "This neither shows harm nor rules out more than", [margin, times(row["resolvable"], 100)]
    return misprinted(sentence, expected) if sentence.startswith(words) else f"the verdict is {row['verdict_alone']}: “{sentence}”"


def _fallen(numbers: Numbers, sentence: str) -> str:
    return misprinted(sentence, _in_text(_told(numbers, "crossed", "negative")))


def _reached(numbers: Numbers, sentence: str) -> str:
    """The largest N that a configuration reaches; the three best of it, each with its reliability on S2, of one seed."""
    on_s1 = {_setting(numbers.trials[trial]): numbers.reliability(trial) for trial in numbers.finished}
    if len(on_s1) < len(numbers.finished):
        return ""  # several seeds: ranges, which no study here has
    reaching = [trial for trial in numbers.finished if numbers.reliability(trial) >= REACHED]
    if not reaching:
        return f"no configuration reaches {REACHED}: “{sentence}”"
    largest = max(numbers.trials[trial]["unknown"] for trial in reaching)
    of_largest = [trial for trial in reaching if numbers.trials[trial]["unknown"] == largest]
    expected: Expected = [largest, REACHED]
    for trial in sorted(of_largest, key=lambda name: -numbers.reliability(name))[:3]:
        row, on = numbers.trials[trial], "reliability_s2" if numbers.summary[trial]["reliability_s2"] is not None else "reliability"
        counts = [row[name] for name in ("highly_known", "maybe_known", "paraphrases") if row[name]]
        expected += [*_knobs(row), *counts, numbers.summary[trial][on], numbers.summary[trial][f"{on}_se"]]
    return misprinted(sentence, [*expected, *([len(of_largest) - 3] if len(of_largest) > 3 else [])])


def _mixes(numbers: Numbers, sentence: str) -> str:
    """Each mix against the one named first in the sentence."""
    head, *parts = re.split(r"(?<=each mix): |; (?=“|whether)", sentence)
    against = head.split("”")[0].partition("“")[2]
    rows = {pair: row for pair, row in numbers.printed_arms.items() if against in pair and row["value"] is not None}
    spans = [sorted({row[name] for row in rows.values()}) for name in ("facts", "pairs")]
    wrong = [misprinted(head, [number for span in spans for number in (span if len(span) == 1 else (span[0], span[-1]))])]
    wrong += ["other mixes are compared"] * (len(parts) != len(rows))
    wrong += [_mix(pair, row, against, part) for (pair, row), part in zip(rows.items(), parts, strict=False)]
    return "; ".join(filter(None, wrong))


def _mixes_learned(numbers: Numbers, sentence: str) -> str:
    """Reliability and exposures of both mixes, for each pair that is compared."""
    parts = sentence.partition(": ")[2].split("; ")
    wrong = []
    for part in parts:
        other = part.partition("”")[0].removeprefix("“")
        pairs = [pair for pair in numbers.printed_arms if other in pair and "Unknown only" in pair]
        for pair in pairs[:1]:
            sides = ("first", "second") if pair[0] == other else ("second", "first")
            row = numbers.printed_arms[pair]
            wrong.append(misprinted(part, [row[f"{side}_{name}"] for side in sides for name in ("reliability", "exposures")]))
        wrong += ["no such mix"] * (not pairs)
    return "; ".join(filter(None, wrong))


def _mix(pair: tuple[str, str], row: dict[str, Any], against: str, part: str) -> str:
    """One mix against another."""
    sign, left_open = 1 if pair[1] == against else -1, part.startswith("whether")
    other = pair[0] if sign > 0 else pair[1]
    if row["_resolved"] == left_open or f"“{other}” loses" not in part:
        return f"{other} should be resolved or not as in the table: {row['_resolved']}, “{part}”"
    limits: Expected = [95, *interval(row, sign=sign)[1:]]
    if left_open:
        return misprinted(part, [*limits, times(row["resolvable"], 100)])
    word = "less" if sign * row["value"] > 0 else "more"
    return misprinted(part, [abs(100 * row["value"]), *limits]) or ("" if f" {word} (" in part else f"should be {word}: “{part}”")


def _span(values: list[float]) -> Expected:
    """Lowest and highest, or one of them if they are printed alike."""
    low, high = min(values), max(values)
    return [low] if low == high else [low, high]


def _refused(numbers: Numbers, sentence: str) -> str:
    shares = [100 * numbers.summary[trial]["refusal_rate"] for trial in numbers.finished]
    changed = sum(numbers.refusals[trial]["_changed"] for trial in numbers.finished)
    if ("shown for none of" in sentence) != (changed == 0):
        return f"a change is shown for {changed}: “{sentence}”"
    base = 100 * numbers.scores["base", "refusal_rate"]["value"]
    return misprinted(sentence, [base, *_span(shares), *([changed] if changed else []), len(shares), 95])


def _benchmarks(numbers: Numbers, sentence: str) -> str:
    parts = re.split(r"; |points: ", sentence)[1:]
    return "; ".join(filter(None, (_benchmark(numbers, part) for part in parts)))


def _benchmark(numbers: Numbers, part: str) -> str:
    (name,) = (column for title, column in TITLES.items() if part.startswith(title))
    rows = [row for trial in numbers.finished if (row := numbers.differences.get((trial, *SCORES[name])))]
    expected = [*_span([100 * row["value"] for row in rows]), len(rows)]
    for verdict in ("harm_shown", "within_margin", "not_resolved"):
        count = sum(row["verdict"] == verdict for row in rows)
        expected += [100 * numbers.study.margin] if count and verdict == "within_margin" else []
        expected += [count] if count else []
    left = [100 * row["resolvable"] for row in rows if row["verdict"] == "not_resolved" and row["resolvable"] is not None]
    return misprinted(part, [*expected, *(_span(left) if left else [])])


def _stopped(numbers: Numbers, sentence: str) -> str:
    stopped = sum(row["status"] == "stopped" for row in numbers.trials.values())
    return misprinted(sentence, [stopped, len(numbers.trials)])


def _missing(numbers: Numbers, sentence: str) -> str:
    unmeasured = [trial for trial, row in numbers.trials.items() if trial not in numbers.summary and row["status"] != "stopped"]
    return misprinted(sentence, [len(unmeasured), len(numbers.trials)])
