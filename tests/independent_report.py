"""What a report says of its trials, computed once more without kp, and compared with its tables."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.independent_numbers import (
    CONTROL,
    LEVEL,
    SUBSETS,
    Row,
    Study,
    benchmark_rows,
    effect_rows,
    refusal_rows,
    score_rows,
    shift_rows,
    summed,
)
from tests.independent_statistics import Mean, holm, mean_in_clusters

SCORES = {
    "completions": ("kp_completions", "acc"),
    "mmlu_dev": ("kp_mmlu_dev", "acc"),
    "mc1": ("kp_misconceptions", "mc1"),
    "mc2": ("kp_misconceptions", "mc2"),
}
RELIABLE, LEARNED = 0.8, 0.05


@dataclass(frozen=True)
class Numbers:
    """Every number that is compared, by the keys of its table."""

    study: Study

    @classmethod
    def read(cls, report: Path) -> "Numbers":
        """Those of the report in this folder."""
        return cls(Study.read(report))

    @cached_property
    def effects(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        return effect_rows(self.study)

    @cached_property
    def shifts(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        return shift_rows(self.study)

    @cached_property
    def scores(self) -> dict[tuple[str, str], dict[str, Any]]:
        return score_rows(self.study)

    @cached_property
    def refusals(self) -> dict[str, dict[str, Any]]:
        return refusal_rows(self.study)

    @cached_property
    def benchmarks(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        return benchmark_rows(self.study)[0]

    @cached_property
    def differences(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        return benchmark_rows(self.study)[1]

    @cached_property
    def trials(self) -> dict[str, Row]:
        """TRIALS in the order of the report: mix, N, rank, learning rate, seed."""
        order = ("paraphrases", "highly_known", "maybe_known", "unknown", "rank", "learning_rate", "seed", "trial_id")
        return {row["trial_id"]: row for row in sorted(self.study.tables["trials"], key=lambda row: [row[name] for name in order])}

    @cached_property
    def controls(self) -> bool:
        """Whether the study has control facts."""
        return any(self.study.role("base", fact) in CONTROL for fact in self.study.clusters)

    def net_change(self, trial: str, subset: str) -> dict[str, Any]:
        """Of the facts that the base knew on S0; `subset` is that of a study with control facts."""
        named = subset if self.controls else "untrained"
        return self.effects.get((trial, named, True, "net_change", None), {"value": None})

    @cached_property
    def finished(self) -> list[str]:
        """Completed trials that were measured."""
        return [trial for trial, row in self.trials.items() if row["status"] == "completed" and trial in self.study.adapters]

    @cached_property
    def best(self) -> str | None:
        """The trial named first: most facts packed at RELIABLE or more, then the least loss on dev facts."""
        able = [trial for trial in self.finished if self.reliability(trial) >= RELIABLE and self.learned(trial)]

        def order(trial: str) -> tuple[float, float, str]:
            change = self.net_change(trial, "control_dev")["value"]
            return -self.reliability(trial) * self.trials[trial]["unknown"], math.inf if change is None else -change, trial

        return min(able, key=order, default=None)

    def reliability(self, trial: str) -> float:
        """On S1."""
        value: float = self.scores[trial, "reliability"]["value"]
        return value

    def learned(self, trial: str) -> bool:
        """Whether it taught more than nothing."""
        return self.reliability(trial) >= max(LEARNED, 2 * (self.scores[trial, "reliability"]["standard_error"] or 0))

    @cached_property
    def summary(self) -> dict[str, dict[str, Any]]:
        """The columns of SUMMARY that follow from outcomes and benchmark items, by trial."""
        return {trial: self._learned(trial) | self._lost(trial) | self._compared(trial) for trial in self.study.adapters}

    def _learned(self, trial: str) -> dict[str, Any]:
        size, found = self.trials[trial]["unknown"], {}
        for measure in ("reliability", "reliability_s2", "refusal_rate"):
            row = self.scores.get((trial, measure), {"value": None, "standard_error": None})
            found |= {measure: row["value"], f"{measure}_se": row["standard_error"]}
        return found | {"facts_packed": times(found["reliability"], size), "facts_packed_se": times(found["reliability_se"], size)}

    def _lost(self, trial: str) -> dict[str, Any]:
        net = self.net_change(trial, "control")
        named = {"": "value", "_lower": "upper", "_upper": "lower"}
        kept = {"_se": "standard_error", "_n": "n", "_verdict": "verdict"}
        found = {f"knowledge_loss{ending}": times(net[column], -1) for ending, column in named.items()}
        found |= {f"knowledge_loss{ending}": net[column] for ending, column in kept.items()}
        return found | {"dev_loss": times(self.net_change(trial, "control_dev")["value"], -1)}

    def _compared(self, trial: str) -> dict[str, Any]:
        endings = {"": "value", "_se": "standard_error", "_lower": "lower", "_upper": "upper"}
        found = {f"refusal_rate_delta{ending}": self.refusals[trial][column] for ending, column in endings.items()}
        measured = {(task, metric) for _, task, metric in self.benchmarks}
        for name, (task, metric) in SCORES.items():
            if (task, metric) not in measured:
                continue  # no column of it
            row = self.differences.get((trial, task, metric), {})
            found[name] = self.benchmarks.get((trial, task, metric), {}).get("value")
            for ending, column in {**endings, "_resolvable": "resolvable", "_verdict": "verdict"}.items():
                found[f"{name}_delta{ending}"] = row.get(column)
        return found

    @cached_property
    def arms(self) -> dict[tuple[str, str], dict[str, Any]]:
        """ARMS by mixes; the interval only of trials with one seed, because that of several is drawn at random."""
        runs: dict[str, dict[tuple[Any, ...], str]] = {}
        shown = [row["trial_id"] for row in self.study.tables["summary"]]  # says only which mix of two is the first
        for trial in sorted(self.finished, key=shown.index):
            if self.net_change(trial, "control")["value"] is not None:
                row = self.trials[trial]
                setting = tuple(row[name] for name in ("unknown", "rank", "learning_rate", "seed"))
                runs.setdefault(mix(row), {})[setting] = trial
        rows, means = {}, {}
        for first, second in itertools.combinations(runs, 2):
            pairs = [(runs[first][setting], runs[second][setting]) for setting in runs[first] if setting in runs[second]]
            if pairs:
                rows[first, second], means[first, second] = self._arms_row(pairs)
        found = [mean for mean in means.values() if mean is not None]
        if len(found) == len(rows):
            for place, key in enumerate(rows):
                rows[key]["_resolved"] = place in holm(len(found), lambda test, k: _excludes_zero(found[test], k))
        return rows

    @cached_property
    def printed_arms(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The same, with what is not computed again as arms.parquet has it."""
        table = {(row["first"], row["second"]): row for row in self.study.tables["arms"]}
        merged = {key: {"_resolved": table[key]["p_holm"] < 2 * LEVEL, **table[key], **row} for key, row in self.arms.items()}
        return {key: row | {"_resolved": row["_resolved"] and row["seeds"] != 2} for key, row in merged.items()}

    def _arms_row(self, pairs: list[tuple[str, str]]) -> tuple[dict[str, Any], Mean | None]:
        study, subset = self.study, SUBSETS["control" if self.controls else "untrained"]
        trials = [trial for pair in pairs for trial in pair]
        known = [fact for fact in study.clusters if study.rank("base", "S0", fact) > 0]
        facts = [fact for fact in known if all(study.role(trial, fact) in subset for trial in trials)]
        differences = [self._right(one, fact) - self._right(other, fact) for one, other in pairs for fact in facts]
        row: dict[str, Any] = {"pairs": len(pairs), "facts": len(facts), "value": None}
        row |= {f"{side}_{name}": sum(values) / len(pairs) for side, name, values in self._conditions(pairs)}
        if not facts or len({self.trials[one]["seed"] for one, _ in pairs}) > 1:
            return row | ({"value": math.fsum(differences) / len(differences)} if facts else {}), None
        mean = mean_in_clusters(differences, [study.clusters[fact] for _ in pairs for fact in facts])
        kept = {name: value for name, value in summed(mean).items() if name in ("value", "lower", "upper")}
        return row | kept | {"resolvable": mean.resolvable()}, mean

    def _right(self, trial: str, fact: str) -> float:
        sets = [shot_set for shot_set in ("S1", "S2") if (trial, shot_set) in self.study.measured]
        return sum(self.study.share(trial, shot_set, fact) for shot_set in sets) / len(sets)

    def _conditions(self, pairs: list[tuple[str, str]]) -> Iterator[tuple[str, str, list[float]]]:
        columns = {"steps": "steps", "exposures": "exposures", "final_rate": "final_learning_rate"}
        for place, side in enumerate(("first", "second")):
            for name, column in columns.items():
                yield side, name, [self.trials[pair[place]][column] for pair in pairs]
            yield side, "reliability", [self.reliability(pair[place]) for pair in pairs]


def _excludes_zero(mean: Mean, k: int) -> bool:
    found = mean.interval(1 - 2 * LEVEL / k)
    return found is not None and not found[0] <= 0 <= found[1]


def mix(trial: Row) -> str:
    """The data mix in words, and behind a comma, as the trial has it, what else its arm sets."""
    counts = {"HighlyKnown": trial["highly_known"], "MaybeKnown": trial["maybe_known"], "paraphrase": trial["paraphrases"]}
    parts = [f"+{count} {name}{'s' if name == 'paraphrase' and count > 1 else ''}" for name, count in counts.items() if count]
    words = " ".join(parts) or "Unknown only"
    return str(trial["arm"]) if trial["arm"].startswith(f"{words}, ") else words


def times(value: float | None, factor: float) -> float | None:
    """None times anything is None."""
    return None if value is None else value * factor


def wrong_tables(numbers: Numbers) -> list[str]:
    """What the report's tables have that its outcomes and benchmark items do not, in words; empty if all numbers agree."""
    study = numbers.study
    wrong = [f"training_rows: control fact {row['fact_id']} is trained on" for row in study.on_controls()]
    wrong += _wrong_outcomes(study)
    wrong += compared("effects", numbers.effects, study, ("trial_id", "subset", "at_risk", "effect", "shift"))
    wrong += compared("shifts", numbers.shifts, study, ("trial_id", "view", "shift"))
    wrong += compared("scores", numbers.scores, study, ("trial_id", "measure"), complete=False)
    wrong += compared("benchmarks", numbers.benchmarks, study, ("trial_id", "task", "metric"))
    wrong += compared("benchmark_effects", numbers.differences, study, ("trial_id", "task", "metric"))
    wrong += compared("arms", numbers.arms, study, ("first", "second"))
    if "answer_changes" in study.tables:
        changes = {
            (trial, "refusal_rate"): {name: row[name] for name in ("value", "n", "lower", "upper")}
            for trial, row in numbers.refusals.items()
        }
        wrong += compared("answer_changes", changes, study, ("trial_id", "measure"), complete=False)
    summary = {(trial,): row for trial, row in numbers.summary.items()}
    return wrong + list(compared("summary", summary, study, ("trial_id",), complete=False))


def _wrong_outcomes(study: Study) -> Iterator[str]:
    """Roles that are not those of parts and training rows, and categories that are not those of the counts."""
    names = ("Unknown", "MaybeKnown", "HighlyKnown")
    for (model, shot_set), rows in study.measured.items():
        if set(rows) != set(study.clusters):
            yield f"outcomes: {model} on {shot_set} has other facts than facts.parquet"
        for fact, row in rows.items():
            if row["role"] != (role := study.role(model, fact)):
                yield f"outcomes: {fact} is {row['role']} to {model} on {shot_set}, and {role} by parts and training rows"
            if row["category"] != names[study.rank(model, shot_set, fact)]:
                yield f"outcomes: {fact} is {row['category']} for {model} on {shot_set}, with {row['correct']} of {row['asked']} right"


def compared(
    name: str, expected: Mapping[Any, Mapping[str, Any]], study: Study, keys: tuple[str, ...], complete: bool = True
) -> Iterator[str]:
    """Where a table differs from what is expected, less columns that it lacks (`_name`); `complete` if it has no other rows."""
    found = {tuple(row[key] for key in keys): row for row in study.tables[name]}
    for key in expected.keys() - found.keys():
        yield f"{name}: no row of {key}"
    for key in found.keys() - expected.keys() if complete else ():
        yield f"{name}: {key} is not expected"
    for key in expected.keys() & found.keys():
        for column, value in expected[key].items():
            if not column.startswith("_") and not same(found[key][column], value):
                yield f"{name}: {column} of {key} is {found[key][column]}, and {value} when computed again"


def same(found: Any, expected: Any) -> bool:
    """Equal, up to the rounding of another order of sums."""
    if isinstance(found, float | int) and isinstance(expected, float | int):
        return math.isclose(found, expected, rel_tol=1e-8, abs_tol=1e-10)
    return bool(found == expected)
