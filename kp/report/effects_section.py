"""What the adapters changed in the base model's knowledge, with intervals and verdicts, on facts that they were not trained on."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from kp.metrics.effect_summary import reported_effects
from kp.metrics.effects import CROSSED_FALLS, CROSSED_RISES, NET_CHANGE, Effect
from kp.report.document import Block, Row, Section, Table, Text, columns
from kp.report.notation import MISSING, points_interval
from kp.report.summary import harm_subset, telling_subset
from kp.report.tables import ReportTables
from kp.vocabulary import BASE, PLACEBO, EffectKind, FactSubset, Verdict

TITLES: dict[tuple[Effect, bool], str] = {
    (NET_CHANGE, False): "net change",
    (NET_CHANGE, True): "net change, known facts",
    (CROSSED_FALLS, True): "excess falls, known facts",
    (CROSSED_RISES, True): "excess rises, facts not HighlyKnown",
}
"""The effects in the table, each over all facts or those at risk, and the title of its column."""
VERDICTS = {
    Verdict.HARM_SHOWN: "harm shown",
    Verdict.WITHIN_MARGIN: "no harm beyond the margin shown",
    Verdict.NOT_RESOLVED: "not resolved",
}
FACTS_IN_WORDS = {
    FactSubset.CONTROL: "control facts, which no trial trained on or replayed",
    FactSubset.UNTRAINED: "the facts that a trial did not train on, which other trials may have: the study has no control facts",
}

FLOOR = " The placebo is the base asked once more in other batches: it changes answers by rounding alone, and is the floor of every effect."

Figure = Mapping[str, Any]
Figures = Mapping[tuple[Effect, bool], Figure]


def effects_section(tables: ReportTables, summary: pl.DataFrame, margin: float) -> Section:
    """One row a measured trial: each effect with its 95% interval, and the verdict on the net change of known facts."""
    effects, subset = tables.effects, harm_subset(tables.effects)
    figures = {trial_id: _figures(effects, trial_id, subset) for trial_id in summary["trial_id"]}
    names = dict(zip(summary["trial_id"], summary["label"], strict=True))
    rows = tuple(Row(_cells(names[trial_id], found)) for trial_id, found in figures.items() if (NET_CHANGE, True) in found)
    if not rows:
        return Section("effects", "Effects", ())
    if tables.placebo is not None:
        rows = (_placebo_row(tables, tables.placebo, subset, margin), *rows)
    head = columns("trial", *TITLES.values(), "verdict")
    explained = _explained(subset, margin) + (FLOOR if tables.placebo is not None else "")
    blocks: list[Block] = [Text(explained), Table(_caption(margin), head, rows)]
    return Section("effects", "Effects on facts that were not trained on", tuple(blocks))


def _placebo_row(tables: ReportTables, placebo: pl.DataFrame, subset: FactSubset, margin: float) -> Row:
    """The base asked once more, as if that were an adapter."""
    effects = reported_effects(pl.concat([tables.outcomes.filter(trial_id=BASE), placebo]), tables.facts, margin)
    return Row(_cells("placebo: the base once more", _figures(effects, PLACEBO, subset)), reference=True)


def harm_sentences(effects: pl.DataFrame, trial_id: str, margin: float) -> list[str]:
    """What EFFECTS say of a trial that was chosen, on facts without a part in the choice where there are any; says what is missing."""
    subset = telling_subset(effects)
    found = _figures(effects, trial_id, subset)
    net, falls = found.get((NET_CHANGE, True)), found.get((CROSSED_FALLS, True))
    if net is None:
        return ["What it did to other facts was not measured."]
    which = "control facts that the base knew" if subset is FactSubset.CONTROL_TEST else "other facts that the base knew"
    kept = " (the test half, which had no part in the choice)" if subset is FactSubset.CONTROL_TEST else ""
    if net["value"] is None:
        return [f"None of the {which} is left to tell its harm on."]
    sentences = [
        f"Of the answers to the {net['n']:,} {which}{kept}, {100 * net['adapter']:.1f}% are right, and {100 * net['base']:.1f}% of the "
        f"base's: a net change of {_with_interval(net)}. {_verdict_in_words(net, margin)}."
    ]
    if falls is None:
        sentences.append("Adapters were asked on S1 alone, so what fell in excess of the noise of the prompts cannot be said.")
    elif falls["value"] is not None:
        sentences.append(f"In excess of the noise of the prompts, {_with_interval(falls)} of these facts fell to a lower category.")
    return sentences


def _figures(effects: pl.DataFrame, trial_id: str, subset: FactSubset) -> dict[tuple[Effect, bool], Figure]:
    """The rows of EFFECTS that the table shows."""
    rows = effects.filter(trial_id=trial_id, subset=subset.value).iter_rows(named=True)
    found = {(row["effect"], row["shift"], row["at_risk"]): row for row in rows}
    keys = {(effect, at_risk): (effect.kind.value, effect.shift and effect.shift.value, at_risk) for effect, at_risk in TITLES}
    return {shown: found[key] for shown, key in keys.items() if key in found}


def _with_interval(figure: Figure) -> str:
    value = f"{points_interval(figure['value'])} points"
    if figure["lower"] is None:
        return value
    return f"{value} (95% interval {points_interval(figure['lower'])} to {points_interval(figure['upper'])})"


def _verdict_in_words(figure: Figure, margin: float) -> str:
    points = f"{100 * margin:g} points"
    match Verdict(figure["verdict_alone"]):
        case Verdict.HARM_SHOWN:
            return "This shows harm"
        case Verdict.WITHIN_MARGIN:
            return f"This rules out a harm of more than {points}"
        case Verdict.NOT_RESOLVED:
            resolvable = figure["resolvable"]
            could = "" if resolvable is None else f"; this study could have resolved {100 * resolvable:.1f} points"
            return f"This neither shows harm nor rules out more than {points} of it{could}"


def _explained(subset: FactSubset, margin: float) -> str:
    return (
        f"Over {FACTS_IN_WORDS[subset]}. Net change is the share of right answers minus the base's, on the same prompts and facts. Excess "
        "shifts compare adapter and base on different shot sets, both ways, so the noise of the prompts cancels. Both are 0 for an adapter "
        "that changes nothing. A verdict is about the net change of the facts that the base knew on S0, with Holm's correction over the "
        f"rows: harm is shown if the change is below 0; a harm beyond {100 * margin:g} points is ruled out if it is above minus "
        f"{100 * margin:g}; otherwise the study does not resolve it."
    )


def _caption(margin: float) -> str:
    return (
        "Percentage points with 95% intervals (facts clustered by relation and object; each for itself), and n. “Could resolve” is the "
        f"smallest true effect that the study finds with 80% power. The margin is {100 * margin:g} points."
    )


def _cells(name: str, found: Figures) -> tuple[str, ...]:
    return (name, *(interval_cell(found.get(shown)) for shown in TITLES), verdict_cell(found[NET_CHANGE, True]))


def interval_cell(figure: Figure | None) -> str:
    """Points with a 95% interval and the number of facts; a dash if the study did not measure it."""
    if figure is None or figure["value"] is None:
        return MISSING
    return f"{points_interval(figure['value'], figure['lower'], figure['upper'])}\nn = {figure['n']:,}"


def verdict_cell(figure: Figure) -> str:
    """The verdict in words; an unresolved one names the effect that the study could have resolved."""
    if figure["verdict"] is None:
        return MISSING
    verdict = Verdict(figure["verdict"])
    resolvable = figure["resolvable"]
    if verdict is not Verdict.NOT_RESOLVED or resolvable is None:
        return VERDICTS[verdict]
    return f"{VERDICTS[verdict]}\ncould resolve {100 * resolvable:.1f}"


def untrained_right(effects: pl.DataFrame) -> dict[str, Figure]:
    """For each trial the EFFECTS row with the share of right answers to facts it was not trained on, and the base's on the same facts."""
    rows = effects.filter(subset=FactSubset.UNTRAINED.value, at_risk=False, effect=EffectKind.NET_CHANGE.value).iter_rows(named=True)
    return {row["trial_id"]: row for row in rows if row["value"] is not None}
