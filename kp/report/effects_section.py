"""What the adapters changed in the base model's knowledge, with intervals and verdicts, on facts that they were not trained on."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from kp.metrics.effects import CROSSED_FALLS, CROSSED_RISES, NET_CHANGE, Effect
from kp.report.document import Block, Row, Section, Table, Text, columns
from kp.report.notation import MISSING
from kp.report.tables import ReportTables
from kp.vocabulary import EffectKind, FactSubset, Verdict

SHOWN: tuple[tuple[Effect, bool], ...] = ((NET_CHANGE, False), (NET_CHANGE, True), (CROSSED_FALLS, True), (CROSSED_RISES, True))
"""The effects in the table, each over all facts or those at risk."""
TITLES = {
    (EffectKind.NET_CHANGE, None, False): "net change",
    (EffectKind.NET_CHANGE, None, True): "net change, known facts",
    (EffectKind.CROSSED, "negative", True): "excess falls, known facts",
    (EffectKind.CROSSED, "positive", True): "excess rises, facts not HighlyKnown",
}
VERDICTS = {
    Verdict.HARM_SHOWN: "harm shown",
    Verdict.WITHIN_MARGIN: "no harm beyond the margin shown",
    Verdict.NOT_RESOLVED: "not resolved",
}

Figure = Mapping[str, Any]


def effects_section(tables: ReportTables, summary: pl.DataFrame, margin: float) -> Section:
    """One row a measured trial: each effect with its 95% interval, and the verdict on the net change of known facts."""
    untrained = tables.effects.filter(subset=FactSubset.UNTRAINED.value)
    if untrained.is_empty():
        return Section("effects", "Effects", ())
    found = {(row["trial_id"], row["effect"], row["shift"], row["at_risk"]): row for row in untrained.iter_rows(named=True)}
    names = dict(zip(summary["trial_id"], summary["label"], strict=True))
    measured = [trial_id for trial_id in names if (trial_id, NET_CHANGE.kind.value, None, True) in found]
    rows = tuple(Row(_cells(names[trial_id], trial_id, found)) for trial_id in measured)
    head = columns("trial", *(TITLES[effect.kind, effect.shift and effect.shift.value, at_risk] for effect, at_risk in SHOWN), "verdict")
    blocks: list[Block] = [Text(_explained(margin)), Table(_caption(margin), head, rows)]
    return Section("effects", "Effects on facts that were not trained on", tuple(blocks))


def harm_sentences(effects: pl.DataFrame, trial_id: str, margin: float) -> list[str]:
    """What EFFECTS say of a trial and the facts that it was not trained on, with intervals and verdict; says so if nothing was measured."""
    of_trial = effects.filter(trial_id=trial_id, subset=FactSubset.UNTRAINED.value, at_risk=True)
    found = {(row["effect"], row["shift"]): row for row in of_trial.iter_rows(named=True)}
    net, falls = found.get((EffectKind.NET_CHANGE.value, None)), found.get((EffectKind.CROSSED.value, "negative"))
    if net is None or net["value"] is None:
        return ["What it did to other facts was not measured."]
    sentences = [
        f"Of the answers to the {net['n']:,} other facts that the base knew, {100 * net['adapter']:.1f}% are right, and "
        f"{100 * net['base']:.1f}% of the base's: a net change of {_with_interval(net)}. {_verdict_in_words(net, margin)}."
    ]
    if falls is None:
        sentences.append("Adapters were asked on S1 alone, so what fell in excess of the noise of the prompts cannot be said.")
    elif falls["value"] is not None:
        sentences.append(f"In excess of the noise of the prompts, {_with_interval(falls)} of these facts fell to a lower category.")
    return sentences


def _with_interval(figure: Figure) -> str:
    if figure["lower"] is None:
        return f"{_points(figure['value'])} points"
    return f"{_points(figure['value'])} points (95% interval {_points(figure['lower'])} to {_points(figure['upper'])})"


def _verdict_in_words(figure: Figure, margin: float) -> str:
    points = f"{100 * margin:g} points"
    match Verdict(figure["verdict"]):
        case Verdict.HARM_SHOWN:
            return "This shows harm"
        case Verdict.WITHIN_MARGIN:
            return f"This rules out a harm of more than {points}"
        case Verdict.NOT_RESOLVED:
            resolvable = figure["resolvable"]
            could = "" if resolvable is None else f"; this study could have resolved {100 * resolvable:.1f} points"
            return f"This neither shows harm nor rules out more than {points} of it{could}"


def _explained(margin: float) -> str:
    return (
        "Net change is the share of right answers minus the base's, on the same prompts and facts. Excess shifts compare adapter and base "
        "on different shot sets, both ways, so the noise of the prompts cancels. Both are 0 for an adapter that changes nothing. A verdict "
        "is about the net change of the facts that the base knew on S0: harm is shown if its interval lies below 0; harm beyond "
        f"{100 * margin:g} points is ruled out if it lies above minus {100 * margin:g}; otherwise the study does not resolve it."
    )


def _caption(margin: float) -> str:
    return (
        "Percentage points with 95% intervals (facts clustered by relation and object), and n. “Could resolve” is the smallest true effect "
        f"that the study finds with 80% power. The margin is {100 * margin:g} points."
    )


def _cells(name: str, trial_id: str, found: Mapping[tuple[str, str, str | None, bool], Figure]) -> tuple[str, ...]:
    figures = [found.get((trial_id, effect.kind.value, effect.shift and effect.shift.value, at_risk)) for effect, at_risk in SHOWN]
    return (name, *map(interval_cell, figures), verdict_cell(found[trial_id, NET_CHANGE.kind.value, None, True]))


def interval_cell(figure: Figure | None) -> str:
    """Points with a 95% interval and the number of facts; a dash if the study did not measure it."""
    if figure is None or figure["value"] is None:
        return MISSING
    value = _points(figure["value"])
    span = "" if figure["lower"] is None else f" ({_points(figure['lower'])} to {_points(figure['upper'])})"
    return f"{value}{span}\nn = {figure['n']:,}"


def verdict_cell(figure: Figure) -> str:
    """The verdict in words; an unresolved one names the effect that the study could have resolved."""
    if figure["verdict"] is None:
        return MISSING
    verdict = Verdict(figure["verdict"])
    resolvable = figure["resolvable"]
    if verdict is not Verdict.NOT_RESOLVED or resolvable is None:
        return VERDICTS[verdict]
    return f"{VERDICTS[verdict]}\ncould resolve {100 * resolvable:.1f}"


def _points(share: float) -> str:
    return f"{100 * share + 0.0:+.1f}".replace("+0.0", "0.0").replace("-0.0", "0.0").replace("-", "−")
