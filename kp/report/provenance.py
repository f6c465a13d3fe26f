"""How the study was made, what its columns mean, and what it cannot say.

The limits are computed from the config and the tables, so a report of three seeds does not warn that there is only one.
"""

from collections.abc import Sequence
from statistics import median

import polars as pl

from kp.config.toml import toml_text
from kp.report.document import Block, Code, Definitions, Points, Row, Section, Table, Text, columns
from kp.report.notation import MISSING, duration, learning_rate, percent, setting
from kp.report.summary import harm_subset
from kp.report.tables import ReportContext, ReportTables
from kp.report.winners import STOPPED, Evidence
from kp.vocabulary import BASE, EffectKind

DEFINITIONS = (
    ("HighlyKnown, MaybeKnown, Unknown", "all, some, none of the 10 greedy answers of a shot set are right. HK, MK, UK for short."),
    ("S0, S1, S2", "disjoint sets of 10 prompts, 4 shots each: S0 assigns categories, S1 measures, S2 and any later one the base again."),
    ("N", "Unknown facts a trial trains on."),
    ("mix", "what each Unknown fact is accompanied by in training: HighlyKnown facts, MaybeKnown facts or paraphrases of its question."),
    ("unknown_accuracy", "share of the trained Unknown facts answered right after an epoch, with a fixed set of prompts."),
    ("reliability", "share of right answers to the trained Unknown facts over the 10 prompts of S1, after training."),
    ("generality", "the same share for paraphrases of their questions that no trial trained on; if the study holds some out."),
    ("facts packed", "reliability × N."),
    ("completed, stopped", "ran its epochs or learned what it was asked to; ended early by the scheduler, for learning slower."),
    ("diverged, failed, oom", "a loss that is not finite; an error; out of memory."),
    (
        "control facts",
        "facts that no trial trains on or replays, drawn by relation and category on S0: harm is told of them. Of two halves, winners are "
        "chosen on dev facts and told on test facts.",
    ),
    (
        "positive, negative shift",
        "share of facts whose category rose (UK→HK, UK→MK, MK→HK) or fell (HK→UK, HK→MK, MK→UK) from base to adapter.",
    ),
    ("noise floor", "the same shifts between two measurements of the base model, S1 and S2."),
    (
        "net change",
        "share of right answers minus the base's, over the same facts and prompts; the loss of knowledge is minus it, over control facts "
        "(if the study has none: facts that the trial did not train on) that the base knew on S0.",
    ),
    ("excess falls", "facts that fell from the base on one shot set to the adapter on the other, minus those of the base itself."),
    ("verdict", "harm shown, no harm beyond the margin shown, or not resolved: by the 95% interval of the net change of known facts."),
    ("at risk, untrained", "shift over only the facts that could move that way; shift without the facts the trial trained on."),
    ("exposures", "times that an Unknown fact was trained on, in its own words or as a paraphrase."),
    ("refusals", "share of answers that decline to answer."),
    ("cut by length", "share of answers that were not over at categorise.max_new_tokens tokens; what would have followed is not judged."),
    ("drift", "KL divergence of the adapter from the base over the next token, per token of neutral text, in nats; 0 if nothing changed."),
    ("unique answers, mean count", "different answers after normalisation, and how often one of them occurs on average."),
    ("MMLU-dev", "accuracy on MMLU's development questions with shots from the same subject; not comparable with published MMLU."),
    (
        "difference on a benchmark",
        "mean over questions of adapter minus base, which answer the same ones; intervals are of one trial alone, verdicts are corrected "
        "(Holm) over all trials of the metric.",
    ),
    ("MC1, MC2", "misconception questions: the best choice is true (MC1); probability on the true choices (MC2)."),
    ("±, s.e.", "one standard error. Shares of answers are clustered over facts."),
)
TRIAL_TIMES = {
    "setup_seconds": "setting up",
    "training_seconds": "training: optimiser steps",
    "eval_seconds": "measuring unknown_accuracy",
}
"""Column of TRIALS -> what that part of a trial's wall time was spent on."""
SMALL = 1000  # with fewer facts, the report warns that it cannot see small effects
MANY_CUT = 0.01  # with a larger share of answers cut by length, of the base or an adapter, the report warns


def made_section(tables: ReportTables, context: ReportContext, found: Evidence) -> Section:
    """Model, versions, hardware, times, config, definitions, limits."""
    made = [
        ("model", f"{context.model_name}, revision {context.model_revision}"),
        ("matcher", str(context.matcher)),
        ("hardware", context.hardware),
        ("kp", context.kp_version),
        *sorted(context.versions.items()),
    ]
    times = [Row((stage, duration(seconds))) for stage, seconds in context.wall_seconds.items()]
    if len(times) > 1:
        times.append(Row(("together", duration(sum(context.wall_seconds.values()))), reference=True))
    blocks: list[Block] = [
        Text("What this study cannot say:"),
        Points(tuple(limits(tables, context, found))),
        Table("Model, machine and package versions.", columns("what", "which", words=2), tuple(Row(pair) for pair in made)),
    ]
    if times:
        blocks.append(Table("Wall time by stage.", columns("stage", "time"), tuple(times)))
    blocks += _where_time_went(tables.trials)
    blocks += [Text("The resolved study:"), Code(toml_text(context.config)), Text("What the columns mean:"), Definitions(DEFINITIONS)]
    return Section("made", "How it was made, and what it cannot say", tuple(blocks))


def _where_time_went(trials: pl.DataFrame) -> list[Table]:
    """The trials' wall time by what it was spent on; empty if no trial has times."""
    timed = trials.drop_nulls(["wall_seconds", *TRIAL_TIMES])
    if timed.is_empty():
        return []
    wall = float(timed["wall_seconds"].sum())
    parts = {name: float(timed[column].sum()) for column, name in TRIAL_TIMES.items()}
    parts["the rest: checkpoints, waiting for workers"] = max(0.0, wall - sum(parts.values()))
    rows = [Row((name, duration(seconds), percent(seconds / wall) if wall else MISSING)) for name, seconds in parts.items()]
    rows.append(Row(("together", duration(wall), percent(1.0)), reference=True))
    missing = len(trials) - len(timed)
    left_out = f"; {missing} without times are left out" if missing else ""
    caption = f"Where the time went: the wall time of {len(timed)} trials, summed{left_out}. It is not part of any comparison."
    return [Table(caption, columns("spent on", "time", "share (%)"), tuple(rows))]


def limits(tables: ReportTables, context: ReportContext, found: Evidence) -> list[str]:
    """What the design of this study leaves open, in one or two sentences each."""
    summary = found.summary
    reasons = [_seeds(summary)]
    for column, name, written in (("rank", "rank", setting), ("learning_rate", "learning rate", learning_rate)):
        values = summary[column].unique().to_list()
        if len(values) == 1:
            reasons.append(f"One {name} was tried ({written(values[0])}): nothing here says that it is the best one.")
    if len(summary):
        reasons.append(
            f"The largest N tried is {max(summary['unknown'].to_list())}: if a mix still learned it, its capacity lies beyond this grid."
        )
    reasons += [_resolution(tables), _benchmark_resolution(tables), _cut_answers(tables)]
    if not found.controls:
        reasons.append(
            "No facts were kept out of all training (facts.control_share = 0): harm is told of the facts that each trial happened not to "
            "train on, and the trial named first is told on the facts that it was chosen on, which flatters it a little."
        )
    reasons.append(f"One model ({context.model_name}); capacity and harm differ between models and sizes.")
    stopped = summary.filter(STOPPED).height
    if stopped:
        reasons.append(
            f"{stopped} of {len(summary)} trials were stopped early for learning slower than others: what they would have packed and lost "
            "in the end is not known."
        )
    unmeasured = summary.filter(pl.col("reliability").is_null() & ~STOPPED)
    if len(unmeasured):
        reasons.append(f"{len(unmeasured)} of {len(summary)} trials have no measured adapter; their settings are open questions.")
    return [reason for reason in reasons if reason]


def _seeds(summary: pl.DataFrame) -> str:
    seeds = summary["seed"].n_unique()
    if seeds > 1:
        return f"{seeds} seeds: the spread between them covers fact draw, LoRA init and data order, but {seeds} points show it roughly."
    return (
        "One seed: how much the numbers change with the facts drawn, the LoRA init and the data order was not measured. The standard "
        "errors here cover the choice of facts alone."
    )


def _resolution(tables: ReportTables) -> str:
    """By the intervals, not by standard errors: these are 0 where no fact has changed, or all by as much."""
    net = tables.effects.filter(subset=harm_subset(tables.effects).value, at_risk=True, effect=EffectKind.NET_CHANGE.value)
    resolvable = net["resolvable"].drop_nulls().to_list()
    if not resolvable or len(tables.facts) >= SMALL:
        return ""
    return (
        f"{len(tables.facts):,} facts are few: the smallest harm to known facts that they show of a typical trial (with 80% power) is "
        f"about {100 * median(resolvable):.1f} percentage points."
    )


def _benchmark_resolution(tables: ReportTables) -> str:
    typical = tables.benchmark_effects.group_by("task", "metric").agg(pl.col("n").first(), pl.col("resolvable").median())
    parts = [
        f"{task} {metric} (n = {n:,}) about {100 * resolvable:.1f}"
        for task, metric, n, resolvable in typical.drop_nulls().sort("task", "metric").iter_rows()
    ]
    if not parts:
        return ""
    return f"The benchmarks are small; the smallest harm that they show of a typical trial, in percentage points: {', '.join(parts)}."


def _cut_answers(tables: ReportTables) -> str:
    """Which share of whose answers was cut by length, if it is more than a few."""
    cut = tables.scores.filter(measure="cut_by_length")
    if cut.filter(pl.col("value") > MANY_CUT).is_empty():
        return ""
    base = cut.filter(pl.col("trial_id") == BASE)["value"].to_list()
    adapters = cut.filter(pl.col("trial_id") != BASE)["value"].to_list()
    shares = [f"{_span(values)} % of {whose}" for values, whose in ((base, "the base model's"), (adapters, "an adapter's")) if values]
    return (
        f"Answers on S1 cut off by their length: {', '.join(shares)}. What would have followed was not judged; a larger "
        "categorise.max_new_tokens shows it."
    )


def _span(shares: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys((percent(min(shares)), percent(max(shares)))))
