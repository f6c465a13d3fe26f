"""The numbers of a report computed once more from its tables of single facts and questions, by plain arithmetic and without kp.

Read: outcomes, facts, parts, trials, training_rows and benchmark_items. Computed: what `Numbers` lists. A definition that kp gets wrong is
therefore not repeated here, as long as it is written down: these follow DESIGN's section 4 and docs/evaluating.md.
"""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.independent_statistics import Mean, cautious_error, holm, holm_adjusted, mcnemar, mean_in_clusters

Row = Mapping[str, Any]
Values = Mapping[str, tuple[float, float]]  # of adapter and base, by fact

RANKS = {"Unknown": 0, "MaybeKnown": 1, "HighlyKnown": 2}
ORIGINS = {"UK": 0, "MK": 1, "HK": 2}
SHIFTS = {
    **{name: {tuple(ORIGINS[end] for end in name.split("->"))} for name in ("UK->HK", "UK->MK", "MK->HK", "HK->UK", "HK->MK", "MK->UK")},
    "positive": {(0, 1), (0, 2), (1, 2)},
    "negative": {(1, 0), (2, 0), (2, 1)},
}
CONTROL = ("control_dev", "control_test")
SUBSETS = {
    "control": CONTROL,
    "control_dev": ("control_dev",),
    "control_test": ("control_test",),
    "untrained": (*CONTROL, "untouched"),
    "all": (*CONTROL, "untouched", "trained", "replayed"),
}
HARMFUL = {"net_change": -1, "crossed": 1}  # a larger value is more harm, or less
LEVEL = 0.025  # one-sided


@dataclass(frozen=True)
class Study:
    """The tables of one report, each a list of rows."""

    tables: Mapping[str, list[Row]]
    training_rows: Mapping[str, list[Row]]  # by trial
    margin: float

    @classmethod
    def read(cls, report: Path) -> "Study":
        """The report in this folder."""
        folder = report / "tables"
        tables = {path.stem: pq.read_table(path).to_pylist() for path in folder.glob("*.parquet")}
        rows = {path.stem: pq.read_table(path).to_pylist() for path in (folder / "training_rows").glob("*.parquet")}
        margin = json.loads((report / "context.json").read_text(encoding="utf-8"))["config"]["report"]["margin"]
        return cls(tables, rows, margin)

    @cached_property
    def measured(self) -> dict[tuple[str, str], dict[str, Row]]:
        """OUTCOMES by model and shot set, then by fact."""
        found: dict[tuple[str, str], dict[str, Row]] = {}
        for row in self.tables["outcomes"]:
            found.setdefault((row["trial_id"], row["shot_set"]), {})[row["fact_id"]] = row
        return found

    @cached_property
    def adapters(self) -> list[str]:
        """The trials that were measured."""
        return sorted({trial for trial, _ in self.measured if trial != "base"})

    @cached_property
    def clusters(self) -> dict[str, tuple[str, str]]:
        """Relation and object of each fact."""
        return {row["fact_id"]: (row["relation"], row["object"]) for row in self.tables["facts"]}

    def share(self, model: str, shot_set: str, fact: str) -> float:
        """The share of right answers."""
        row = self.measured[model, shot_set][fact]
        return row["correct"] / row["asked"]

    def rank(self, model: str, shot_set: str, fact: str) -> int:
        """The category, from the counts: 0, 1, 2 for Unknown, MaybeKnown, HighlyKnown."""
        row = self.measured[model, shot_set][fact]
        return 0 if row["correct"] == 0 else 2 if row["correct"] == row["asked"] else 1

    def role(self, trial: str, fact: str) -> str:
        """What the fact is to the trial, from the parts and what the trial trained on."""
        part = self._parts.get(fact, "pool")
        roles = self._trained_as.get((trial, fact), set())
        if part != "pool":
            return part
        return "trained" if roles & {"unknown", "paraphrase"} else "replayed" if roles else "untouched"

    @cached_property
    def _parts(self) -> dict[str, str]:
        return {row["fact_id"]: row["part"] for row in self.tables.get("parts", [])}

    @cached_property
    def _trained_as(self) -> dict[tuple[str, str], set[str]]:
        found: dict[tuple[str, str], set[str]] = {}
        for trial, rows in self.training_rows.items():
            for row in rows:
                found.setdefault((trial, row["fact_id"]), set()).add(row["role"])
        return found

    def on_controls(self) -> list[Row]:
        """Training rows of control facts, of which there must be none."""
        return [row for rows in self.training_rows.values() for row in rows if self._parts.get(row["fact_id"], "pool") != "pool"]


@dataclass(frozen=True)
class Effect:
    """One effect of one trial, with its values on all facts."""

    kind: str
    shift: str | None
    values: Values
    at_risk: frozenset[int]  # ranks on S0 of the facts that can move so

    @property
    def harm(self) -> int:
        """1 if a larger value is more harm, -1 if it is less, 0 if it is none."""
        return 0 if self.shift and any(after > before for before, after in SHIFTS[self.shift]) else HARMFUL.get(self.kind, 0)


def effects_of(study: Study, trial: str) -> Iterator[Effect]:
    """Net change, and the shifts on the same prompts and crossed, as defined in DESIGN."""
    facts, both = list(study.measured[trial, "S1"]), (trial, "S2") in study.measured
    sets = ("S1", "S2") if both else ("S1",)

    def right(model: str, fact: str) -> float:
        return sum(study.share(model, shot_set, fact) for shot_set in sets) / len(sets)

    yield Effect("net_change", None, {fact: (right(trial, fact), right("base", fact)) for fact in facts}, frozenset({1, 2}))
    for shift, moves in SHIFTS.items():
        at_risk = frozenset(before for before, _ in moves)

        def moved(fact: str, before: str, model: str, after: str, moves: set[Any] = moves) -> int:
            return (study.rank("base", before, fact), study.rank(model, after, fact)) in moves

        yield Effect("same_prompt", shift, {fact: (moved(fact, "S1", trial, "S1"), 0.0) for fact in facts}, at_risk)
        if both:
            crossed = {
                fact: (
                    (moved(fact, "S1", trial, "S2") + moved(fact, "S2", trial, "S1")) / 2,
                    (moved(fact, "S1", "base", "S2") + moved(fact, "S2", "base", "S1")) / 2,
                )
                for fact in facts
            }
            yield Effect("crossed", shift, crossed, at_risk)


def effect_rows(study: Study) -> dict[tuple[Any, ...], dict[str, Any]]:
    """EFFECTS by trial, subset, at_risk, effect and shift."""
    controls = any(study.role("base", fact) in CONTROL for fact in study.clusters)
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    grids: dict[tuple[Any, ...], dict[str, tuple[Mean, int]]] = {}
    for trial in study.adapters:
        for effect, subset, at_risk in itertools.product(effects_of(study, trial), SUBSETS, (False, True)):
            if not controls and subset.startswith("control"):
                continue
            chosen = [fact for fact in effect.values if study.role(trial, fact) in SUBSETS[subset]]
            chosen = [fact for fact in chosen if not at_risk or study.rank("base", "S0", fact) in effect.at_risk]
            grid = (subset, at_risk, effect.kind, effect.shift)
            row, mean = _effect_row(study, effect, chosen)
            rows[trial, *grid] = row
            if mean is not None and effect.harm:
                grids.setdefault(grid, {})[trial] = (mean, effect.harm)
    for grid, means in grids.items():
        for trial, verdict in verdicts(list(means.values()), study.margin, list(means)).items():
            rows[trial, *grid] |= {"verdict": verdict, "verdict_alone": verdict_alone(*means[trial], study.margin)}
    return rows


def _effect_row(study: Study, effect: Effect, chosen: Sequence[str]) -> tuple[dict[str, Any], Mean | None]:
    empty = dict.fromkeys(("value", "adapter", "base", "standard_error", "lower", "upper", "resolvable", "verdict", "verdict_alone"))
    if not chosen:
        return empty | {"n": 0, "clusters": 0}, None
    pairs = [effect.values[fact] for fact in chosen]
    clusters = [study.clusters[fact] for fact in chosen]
    mean = mean_in_clusters([adapter - base for adapter, base in pairs], clusters, 0.0 if effect.kind == "same_prompt" else -1.0)
    sides = {name: math.fsum(pair[place] for pair in pairs) / len(pairs) for place, name in enumerate(("adapter", "base"))}
    return empty | sides | summed(mean) | {"clusters": mean.clusters, "resolvable": mean.resolvable()}, mean


def summed(mean: Mean) -> dict[str, Any]:
    """The columns of a mean that all tables name alike."""
    lower, upper = mean.limits() or (None, None)
    return {"value": mean.value, "n": mean.n, "standard_error": mean.error, "lower": lower, "upper": upper}


def harm_beyond(mean: Mean, sign: int, bound: float, confidence: float) -> bool:
    """Whether the interval shows a harm of more than `bound`."""
    found = mean.interval(confidence)
    return found is not None and (found[0] if sign > 0 else -found[1]) > bound


def harm_below(mean: Mean, sign: int, bound: float, confidence: float) -> bool:
    """Whether the interval shows a harm of less than `bound`."""
    found = mean.interval(confidence)
    return found is not None and (found[1] if sign > 0 else -found[0]) < bound


def verdict_alone(mean: Mean, sign: int, margin: float) -> str:
    """By the 95% interval."""
    if harm_beyond(mean, sign, 0.0, 0.95):
        return "harm_shown"
    return "within_margin" if harm_below(mean, sign, margin, 0.95) else "not_resolved"


def verdicts(means: Sequence[tuple[Mean, int]], margin: float, names: Sequence[str]) -> dict[str, str]:
    """With Holm's correction over all of these."""
    shown = holm(len(means), lambda test, k: harm_beyond(*means[test], 0.0, 1 - 2 * LEVEL / k))
    below = holm(len(means), lambda test, k: harm_below(*means[test], margin, 1 - 2 * LEVEL / k))
    words = ("harm_shown" if test in shown else "within_margin" if test in below else "not_resolved" for test in range(len(means)))
    return dict(zip(names, words, strict=True))


def shift_rows(study: Study) -> dict[tuple[str, str, str], dict[str, Any]]:
    """SHIFTS by trial, view and shift; "noise" is the base on S1 and on S2."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    facts = list(study.measured["base", "S1"])
    moves = {"noise": {fact: (study.rank("base", "S1", fact), study.rank("base", "S2", fact)) for fact in facts}}
    moves |= {trial: {fact: (study.rank("base", "S1", fact), study.rank(trial, "S1", fact)) for fact in facts} for trial in study.adapters}
    for trial, moved in moves.items():
        views: dict[str, list[str]] = {"all": facts, "at_risk": facts}
        if trial != "noise":
            views |= {name: [fact for fact in facts if study.role(trial, fact) in SUBSETS[name]] for name in ("untrained", "control")}
        for (view, among), (shift, ways) in itertools.product(views.items(), SHIFTS.items()):
            if among or view != "control":
                risky = [fact for fact in among if view != "at_risk" or moved[fact][0] in {before for before, _ in ways}]
                count, n = sum(moved[fact] in ways for fact in among), len(risky)
                rate = count / n if n else None
                error = None if rate is None else math.sqrt(rate * (1 - rate) / n)
                rows[trial, view, shift] = {"count": count, "n": n, "rate": rate, "standard_error": error}
    return rows


def score_rows(study: Study) -> dict[tuple[str, str], dict[str, Any]]:
    """The SCORES that outcomes decide, by model and measure."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for model in ("base", *study.adapters):
        on_s1 = list(study.measured[model, "S1"].values())
        taught = {
            shot_set: [row for fact, row in study.measured.get((model, shot_set), {}).items() if study.role(model, fact) == "trained"]
            for shot_set in ("S1", "S2")
        }
        for measure, among, column in (
            ("refusal_rate", on_s1, "refused"),
            ("accuracy", on_s1, "correct"),
            ("reliability", taught["S1"], "correct"),
            ("reliability_s2", taught["S2"], "correct"),
        ):
            if among:
                rows[model, measure] = _share(among, column)
        if taught["S1"]:
            n = len(taught["S1"])
            share = sum(2 * row["correct"] >= row["asked"] for row in taught["S1"]) / n
            learned = [float(2 * row["correct"] >= row["asked"]) for row in taught["S1"]]
            rows[model, "facts_learned"] = {"value": share, "n": n, "standard_error": cautious_error(learned, range(n))}
        for measure, rank in (("highly_known", 2), ("maybe_known", 1), ("unknown", 0)):
            count = sum(study.rank(model, "S1", row["fact_id"]) == rank for row in on_s1)
            rows[model, measure] = {"value": count, "n": len(on_s1), "standard_error": None}
    return rows


def _share(among: Sequence[Row], column: str) -> dict[str, Any]:
    """A share of answers, clustered over facts."""
    answers = [(row["fact_id"], float(number < row[column])) for row in among for number in range(row["asked"])]
    mean = mean_in_clusters([right for _, right in answers], [fact for fact, _ in answers], 0.0)
    return {
        "value": mean.value,
        "n": mean.n,
        "standard_error": cautious_error([right for _, right in answers], [fact for fact, _ in answers]),
    }


def refusal_rows(study: Study) -> dict[str, dict[str, Any]]:
    """The change of each trial's refusals on S1, and whether it is shown with Holm's correction."""
    means = {}
    for trial in study.adapters:
        rows, base = study.measured[trial, "S1"], study.measured["base", "S1"]
        changes = [row["refused"] / row["asked"] - base[fact]["refused"] / base[fact]["asked"] for fact, row in rows.items()]
        means[trial] = mean_in_clusters(changes, [study.clusters[fact] for fact in rows])
    listed = list(means.values())

    def excludes_zero(test: int, k: int) -> bool:
        found = listed[test].interval(1 - 2 * LEVEL / k)
        return found is not None and not found[0] <= 0 <= found[1]

    changed = holm(len(listed), excludes_zero)
    return {trial: summed(mean) | {"_changed": place in changed} for place, (trial, mean) in enumerate(means.items())}


def benchmark_rows(study: Study) -> tuple[dict[tuple[str, str, str], dict[str, Any]], dict[tuple[str, str, str], dict[str, Any]]]:
    """BENCHMARKS' values, and BENCHMARK_EFFECTS, by model, task and metric."""
    scored: dict[tuple[str, str], dict[str, dict[int, Row]]] = {}
    for row in study.tables["benchmark_items"]:
        scored.setdefault((row["task"], row["metric"]), {}).setdefault(row["trial_id"], {})[row["item"]] = row
    values, effects = {}, {}
    for (task, metric), models in scored.items():
        for model, items in models.items():
            scores = [row["score"] for row in items.values()]
            values[model, task, metric] = {"value": math.fsum(scores) / len(scores), "n": len(scores)}
        effects |= {(trial, task, metric): row for trial, row in _differences(models, study.margin).items()}
    return values, effects


def _differences(models: Mapping[str, Mapping[int, Row]], margin: float) -> dict[str, dict[str, Any]]:
    """Every adapter minus the base over the same questions of one score."""
    base, trials = models["base"], sorted(trial for trial in models if trial != "base")
    changes = {trial: [models[trial][item]["score"] - base[item]["score"] for item in base] for trial in trials}
    means = {trial: mean_in_clusters(changes[trial], [row["group"] for row in base.values()]) for trial in trials}
    judged = verdicts([(mean, -1) for mean in means.values()], margin, trials)
    binary = all(row["score"] in (0, 1) for items in models.values() for row in items.values())
    p_values = [mcnemar(sum(c < 0 for c in changes[trial]), sum(c > 0 for c in changes[trial])) for trial in trials]
    tested = dict(zip(trials, zip(p_values, holm_adjusted(p_values), strict=True), strict=True))
    return {
        trial: summed(mean)
        | {
            "clusters": mean.clusters,
            "base": math.fsum(row["score"] for row in base.values()) / len(base),
            "adapter": math.fsum(row["score"] for row in models[trial].values()) / len(base),
            "resolvable": mean.resolvable(confidence=1 - 2 * LEVEL / len(trials)),
            "verdict": judged[trial],
            "p_value": tested[trial][0] if binary else None,
            "p_holm": tested[trial][1] if binary else None,
        }
        for trial, mean in means.items()
    }
