"""The bits that adapters memorised, computed once more from the surprisal of single answers by plain arithmetic and without kp."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.independent_numbers import Study
from tests.independent_page import misprinted, tables_of
from tests.independent_report import Numbers, times
from tests.independent_statistics import mean_in_clusters, student_quantile

SECTION = "Bits that adapters hold"
PACKED = ("unknown", "paraphrase")  # the roles of rows that teach a fact


def memorised(study: Study, trial: str) -> dict[str, float | None]:
    """M of one trial with its interval, and what it is made of; facts of relations without an untaught one are compared with all others."""
    rows = {row["fact_id"]: row for row in study.tables["surprisal"] if row["trial_id"] == trial}
    base = {row["fact_id"]: row["bits"] for row in study.tables["surprisal"] if row["trial_id"] == "base"}
    gain = {fact: base[fact] - row["bits"] for fact, row in rows.items()}
    taught = {row["fact_id"]: row["role"] for row in study.training_rows[trial]}
    unknown = [fact for fact, row in study.measured["base", "S0"].items() if row["category"] == "Unknown"]
    packed = [fact for fact in rows if taught.get(fact) in PACKED]
    relations = defaultdict(list)
    for fact in unknown:
        if fact in rows and fact not in taught:
            relations[study.clusters[fact][0]].append(fact)
    untaught = [fact for alike in relations.values() for fact in alike]
    overall = _mean([gain[fact] for fact in untaught])
    compared = {fact: relations.get(study.clusters[fact][0]) or untaught for fact in packed}
    own = {fact: gain[fact] - _mean([gain[one] for one in compared[fact]]) for fact in packed}
    total = math.fsum(own.values())
    weight = dict.fromkeys(untaught, 0.0)
    for fact in packed:
        for one in compared[fact]:
            weight[one] += 1 / len(compared[fact])
    of_packed = {study.clusters[fact][0] for fact in packed}
    center = {
        one: _mean([gain[other] for other in alike]) if len(alike) > 1 and relation in of_packed else overall
        for relation, alike in relations.items()
        for one in alike
    }
    parts = {fact: own[fact] - total / len(packed) for fact in packed}
    parts |= {one: -weight[one] * (gain[one] - center[one]) for one in untaught}
    reach = _reach(study, parts)
    recall = mean_in_clusters([float(rows[fact]["is_greedy"]) for fact in packed], [study.clusters[fact] for fact in packed], 0.0)
    recalled = recall.limits() or (None, None)
    return {
        "facts": len(packed),
        "held": math.fsum(base[fact] for fact in packed),
        "bits": total,
        "lower": None if reach is None else total - reach,
        "upper": None if reach is None else total + reach,
        "recall": recall.value,
        "recall_lower": recalled[0],
        "recall_upper": recalled[1],
        "untaught_gain": overall,
        "untaught": len(untaught),
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _reach(study: Study, parts: dict[str, float]) -> float | None:
    """Half of the 95% interval of a sum of deviations, which are added up by cluster; a single cluster says nothing of others."""
    sums: defaultdict[object, float] = defaultdict(float)
    for fact, part in parts.items():
        sums[study.clusters[fact]] += part
    count = len(sums)
    if count == 1:
        return None
    error = math.sqrt(math.fsum(value * value for value in sums.values()) * count / (count - 1))
    return student_quantile(0.975, count - 1) * error


def wrong_capacity(numbers: Numbers, page: Path) -> list[str]:
    """What a report prints of capacity that surprisals do not say, in words; empty if all agrees, or if the study measured none."""
    of_trials = [row["trial_id"] for row in numbers.study.tables.get("capacity", ())]
    if not of_trials:
        return []
    labels = {row["label"]: row["trial_id"] for row in numbers.study.tables["summary"]}
    (_, rows), *_ = tables_of(page)[SECTION]
    trials = [labels[cells["trial"]] for cells in rows]
    wrong = [] if sorted(trials) == sorted(of_trials) else ["the rows are not the trials with a capacity"]
    wrong += [one for trial, cells in zip(trials, rows, strict=True) for one in _row(numbers, cells, trial) if one]
    return [f"{SECTION}: {one}" for one in wrong]


def is_figure(written: str, value: float) -> bool:
    """Whether a number is written with three significant figures, without zeros at the end."""
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 2) if value else 0.0
    return abs(float(written.replace(",", "").replace("\u2212", "-")) - value) <= 0.5 * step * (1 + 1e-9)


def _row(numbers: Numbers, cells: dict[str, str], trial: str) -> Iterator[str]:
    found, of_trial = memorised(numbers.study, trial), numbers.trials[trial]
    parameters, facts = of_trial["trainable_parameters"], found["facts"]
    bits = [found[name] for name in ("bits", "lower", "upper")]
    recall = [times(found[name], 100) for name in ("recall", "recall_lower", "recall_upper")]
    yield misprinted(cells["facts packed"], [facts])
    yield misprinted(cells["exposures a fact"], [of_trial["exposures"]], is_figure)
    yield misprinted(cells["recalled (%)"], recall, is_figure)
    yield misprinted(cells["parameters"], [parameters])
    yield misprinted(cells["bits they held"], [found["held"]])
    yield misprinted(cells["bits memorised"], bits, is_figure)
    yield misprinted(cells["bits a fact"], [times(value, 1 / facts) for value in bits], is_figure)
    yield misprinted(cells["bits a parameter"], [times(value, 1 / parameters) for value in bits], is_figure)
    yield misprinted(cells["load (bits a parameter)"], [times(found["held"], 1 / parameters)])
    yield misprinted(cells["gain of untaught facts (bits)"].replace("n = ", ""), [found["untaught_gain"], found["untaught"]], is_figure)


def wrong_most(numbers: Numbers, sentence: str) -> str:
    """What is wrong with the sentence that opens the report of adapters that were asked nothing."""
    measured = {row["trial_id"] for row in numbers.study.tables["surprisal"]} - {"base"}
    found = {trial: memorised(numbers.study, trial) for trial in measured}
    size = {trial: numbers.trials[trial]["trainable_parameters"] for trial in measured}
    best = max(found, key=lambda trial: found[trial]["bits"] / size[trial])
    trial, most = numbers.trials[best], found[best]
    held = [times(most[name], 1 / size[best]) for name in ("bits", "lower", "upper")]
    expected = [len(found), trial["unknown"], trial["rank"], *held, most["bits"] / most["facts"], most["facts"], trial["exposures"]]
    return misprinted(sentence.replace("N=", "").replace("r=", ""), expected, is_figure)
