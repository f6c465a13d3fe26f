"""The bits that adapters memorised, computed once more from the surprisal of single answers by plain arithmetic and without kp."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.independent_numbers import Row, Study
from tests.independent_page import misprinted, tables_of
from tests.independent_report import Numbers
from tests.independent_statistics import student_quantile

SECTION = "Bits that adapters hold"
FIGURE = re.compile(r"(?<![\w.])\u2212?\d[\d,]*(?:\.\d+)?(?:e[+\u2212]?\d+)?")
PACKED = ("unknown", "paraphrase")  # the roles of rows that teach a fact


def memorised(study: Study, trial: str) -> dict[str, float]:
    """M of one trial with its interval, and what it is made of; facts of relations without an untaught one are compared with all others."""
    rows = {row["fact_id"]: row for row in study.tables["surprisal"] if row["trial_id"] == trial}
    base = {row["fact_id"]: row["bits"] for row in study.tables["surprisal"] if row["trial_id"] == "base"}
    gain = {fact: base[fact] - row["bits"] for fact, row in rows.items()}
    taught = {row["fact_id"]: row["role"] for row in study.training_rows[trial]}
    unknown = {
        row["fact_id"]
        for row in study.tables["outcomes"]
        if (row["trial_id"], row["shot_set"], row["category"]) == ("base", "S0", "Unknown")
    }
    packed = sorted(fact for fact in rows if taught.get(fact) in PACKED)
    untaught = sorted(fact for fact in rows if fact in unknown and fact not in taught)
    facts = {row["fact_id"]: row for row in study.tables["facts"]}
    relations = defaultdict(list)
    for fact in untaught:
        relations[facts[fact]["relation"]].append(fact)
    taken, weight = {}, dict.fromkeys(untaught, 0.0)
    for fact in packed:
        likes = relations.get(facts[fact]["relation"]) or untaught
        taken[fact] = _mean([gain[one] for one in likes])
        for one in likes:
            weight[one] += 1 / len(likes)
    own = {fact: gain[fact] - taken[fact] for fact in packed}
    total = sum(own.values())
    sums: defaultdict[object, float] = defaultdict(float)
    for fact in packed:
        sums[_cluster(facts[fact])] += own[fact] - total / len(packed)
    overall = _mean([gain[one] for one in untaught])
    for one in untaught:
        alike = relations[facts[one]["relation"]]
        center = _mean([gain[other] for other in alike]) if len(alike) > 1 and _packs(packed, facts, one) else overall
        sums[_cluster(facts[one])] -= weight[one] * (gain[one] - center)
    count = len(sums)
    limits = {}
    if count > 1:  # a single cluster says nothing of others
        error = math.sqrt(sum(value * value for value in sums.values()) * count / (count - 1))
        reach = student_quantile(0.975, count - 1) * error
        limits = {"lower": total - reach, "upper": total + reach}
    return {
        "facts": len(packed),
        "held": sum(base[fact] for fact in packed),
        "bits": total,
        **limits,
        "recall": _mean([float(rows[fact]["is_greedy"]) for fact in packed]),
        "untaught_gain": overall,
        "untaught": len(untaught),
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _cluster(fact: Row) -> tuple[Any, Any]:
    return fact["relation"], fact["object"]


def _packs(packed: Sequence[str], facts: dict[str, Row], one: str) -> bool:
    return any(facts[fact]["relation"] == facts[one]["relation"] for fact in packed)


def wrong_capacity(numbers: Numbers, page: Path) -> list[str]:
    """What a report prints of capacity that surprisals do not say, in words; empty if all agrees, or if it prints nothing of it."""
    labels = {row["label"]: row["trial_id"] for row in numbers.study.tables["summary"]}
    tables = tables_of(page).get(SECTION, [])
    return [f"{SECTION}: {wrong}" for _, rows in tables[:1] for cells in rows for wrong in _row(numbers, cells, labels) if wrong]


def misfigured(text: str, expected: Sequence[float]) -> str:
    """The same as `misprinted` for numbers that are written with three significant figures, without zeros at the end."""
    written = [float(number.replace(",", "").replace("\u2212", "-")) for number in FIGURE.findall(text)]
    if len(written) == len(expected) and all(_is_figure(*pair) for pair in zip(written, expected, strict=True)):
        return ""
    return f"“{text}” should have {', '.join(f'{number:.6g}' for number in expected)}".replace("\n", " ")


def _is_figure(written: float, value: float) -> bool:
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 2) if value else 0.0
    return abs(written - value) <= 0.5 * step * (1 + 1e-9)


def _row(numbers: Numbers, cells: dict[str, str], labels: dict[str, str]) -> Iterator[str]:
    trial = labels[cells["trial"]]
    found, parameters = memorised(numbers.study, trial), numbers.trials[trial]["trainable_parameters"]
    bits = [found[name] for name in ("bits", "lower", "upper") if name in found]
    recalled, gain = cells["recalled (%)"].partition("\n")[0], cells["gain of untaught facts (bits)"].replace("n = ", "")
    yield misprinted(cells["facts packed"], [found["facts"]])
    yield misprinted(cells["parameters"], [parameters])
    yield misfigured(cells["exposures a fact"], [numbers.trials[trial]["exposures"]])
    yield misfigured(recalled, [100 * found["recall"]])
    yield misprinted(cells["bits they held"], [found["held"]])
    yield misfigured(cells["bits memorised"], bits)
    yield misfigured(cells["bits a fact"], [value / found["facts"] for value in bits])
    yield misfigured(cells["bits a parameter"], [value / parameters for value in bits])
    yield misprinted(cells["load (bits a parameter)"], [found["held"] / parameters])
    yield misfigured(gain, [found["untaught_gain"], found["untaught"]])


def wrong_most(numbers: Numbers, sentence: str) -> str:
    """What is wrong with the sentence that opens the report of adapters that were asked nothing."""
    measured = {row["trial_id"] for row in numbers.study.tables["surprisal"]}
    found = {trial: memorised(numbers.study, trial) for trial in numbers.trials if trial in measured}
    best = max(found, key=lambda trial: found[trial]["bits"] / numbers.trials[trial]["trainable_parameters"])
    trial, most = numbers.trials[best], found[best]
    held = [most[name] / trial["trainable_parameters"] for name in ("bits", "lower", "upper")]
    name = [trial["unknown"], trial["rank"]]
    return misfigured(
        sentence.replace("N=", "").replace("r=", ""),
        [len(found), *name, *held, most["bits"] / most["facts"], most["facts"], trial["exposures"]],
    )
