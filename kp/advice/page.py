"""The page of `kp plan`: the advice, what its predictions are worth, and what they rest on. No prediction stands without its interval."""

from collections.abc import Iterator, Sequence

import polars as pl

from kp.advice.prediction import NATS, NEEDED, Errors, Predictor
from kp.advice.proposing import BATCH_SIZE, LEADING
from kp.advice.recommending import Advice, Advised
from kp.advice.targets import Setting, Target
from kp.report.document import Block, Document, Figure, Row, Section, Table, Text, columns
from kp.report.notation import MISSING, learning_rate, points_interval, share_with_interval

TITLES = {Target.RELIABILITY: "reliability", Target.HARM: "harm"}
KNOBS = {
    "facts": "N",
    "rank": "rank",
    "learning_rate": "learning rate",
    "exposures": "exposures",
    "replayed": "replayed facts",
    "parameters": "the base model's size",
}
PICTURE = "packed_by_rank"
PICTURE_CAPTION = (
    "Predicted facts packed against N, with 95% intervals as bands, one panel for each rank, at the learning rate, mix and exposures of "
    "the first setting. The dashed line is all N facts."
)
SHOWN = 5  # settings


def plan_page(
    rows: pl.DataFrame, predictors: Sequence[Predictor], advice: Advice, proposed: Sequence[Advised], file: str | None
) -> Document:
    """The page; `proposed` are the next trials with their predictions, written to `file`."""
    question = advice.question
    sections = (
        Section("settings", "Settings", tuple(_settings(advice))),
        Section("worth", "What the predictions are worth", tuple(_worth(predictors))),
        Section("next", "The next trials", tuple(_next(proposed, file))),
        Section("experience", "What they rest on", (_experience(rows),)),
    )
    subtitle = (
        f"For {question.facts:,} facts, at most {100 * question.tolerance:g} points of harm, a base model of {_size(question.parameters)} "
        f"parameters. {len(rows)} trials of {rows['study'].n_unique()} studies."
    )
    answer = tuple(_answer(advice, predictors))
    lead = Figure(PICTURE, PICTURE_CAPTION)
    return Document(f"A plan for {question.facts:,} facts", subtitle, answer, lead, tuple(one for one in sections if one.blocks))


def _answer(advice: Advice, predictors: Sequence[Predictor]) -> Iterator[str]:
    best, tolerance = advice.best, 100 * advice.question.tolerance
    if advice.any_setting:
        yield (
            "Any setting: these trials do not say which is better. Neither reliability nor harm of a study is predicted better from the "
            "settings of the others than by the mean alone."
        )
        told = "Whatever the setting"
    else:
        yield f"Start with {described(best.setting)}."
        told = "Predicted"
    yield f"{told}: reliability {percent_interval(best)}%, harm {harm_interval(best)} points (95% intervals, of a study not among these)."
    if not advice.is_safe:
        yield f"No setting is predicted to stay within {tolerance:g} points of harm with its whole interval: measure it before you ship."
    for predictor in predictors:
        if not predictor.has_skill and not advice.any_setting:
            yield f"The settings say no more of {predictor.target} than the mean does, so its predictions are those of the mean."
    if advice.outside:
        names = ", ".join(KNOBS[name] for name in advice.outside)
        yield f"Outside what was measured: {names}. Intervals are widened by a rule there; nothing was learned of it."


def described(setting: Setting) -> str:
    """A setting in words."""
    return (
        f"rank {setting.rank}, learning rate {learning_rate(setting.learning_rate)}, {mix(setting)}, {setting.exposures} exposures "
        f"({setting.steps(BATCH_SIZE):,} steps of {BATCH_SIZE} rows)"
    )


def mix(setting: Setting) -> str:
    """The data mix in words."""
    return f"{setting.replayed} replayed for each new fact" if setting.replayed else "new facts only"


def percent_interval(one: Advised) -> str:
    """Predicted reliability in percent with its interval."""
    interval = one.reliability
    return f"{100 * interval.value:.0f} ({100 * interval.lower:.0f} to {100 * interval.upper:.0f})"


def harm_interval(one: Advised) -> str:
    """Predicted harm in points with its interval."""
    return points_interval(one.harm.value, one.harm.lower, one.harm.upper)


def _settings(advice: Advice) -> Iterator[Block]:
    if advice.any_setting:
        yield Text("No order among settings is shown, because the trials give none.")
    else:
        caption = (
            "By predicted reliability times the probability that harm is within the tolerance. Predictions with 95% intervals; harm is the "
            "loss of right answers to known control facts."
        )
        yield _table(caption, advice.ordered[:SHOWN])


def _table(caption: str, rows: Sequence[Advised]) -> Table:
    head = columns("rank", "learning rate", "replayed", "exposures", "steps", "reliability (%)", "harm (points)", words=0)
    return Table(caption, head, tuple(Row((*_knobs(one.setting), percent_interval(one), harm_interval(one))) for one in rows))


def _knobs(setting: Setting) -> tuple[str, ...]:
    steps = f"{setting.steps(BATCH_SIZE):,}"
    return str(setting.rank), learning_rate(setting.learning_rate), str(setting.replayed), str(setting.exposures), steps


def _worth(predictors: Sequence[Predictor]) -> Iterator[Block]:
    rows = []
    for predictor in predictors:
        for name, errors in (("from settings", predictor.process_left_out), ("the mean alone", predictor.mean_left_out)):
            rows.append(Row((TITLES[predictor.target], name, *_errors(errors))))
    yield Table(
        "Each study predicted from the others: root mean squared error in points (smallest to largest of a study), and how many values "
        "their 95% intervals held, in percent with Wilson's interval.",
        columns("target", "predicted", "error (points)", "in interval (%)", "values", words=2),
        tuple(rows),
    )
    for predictor in predictors:
        yield Text(_verdict(predictor))


def _errors(errors: Errors | None) -> tuple[str, str, str]:
    if errors is None:
        return MISSING, MISSING, MISSING
    low, high = min(errors.by_study), max(errors.by_study)
    spread = f"{100 * errors.overall:.1f} ({100 * low:.1f} to {100 * high:.1f})"
    return spread, share_with_interval(errors.covered, errors.rows), str(errors.rows)


def _verdict(predictor: Predictor) -> str:
    name = TITLES[predictor.target].capitalize()
    if predictor.process_left_out is None:
        return f"{name}: all trials are of one study, which says nothing of others; predictions are those of the mean."
    if predictor.has_skill:
        return f"{name}: the settings predict it better than the mean alone, so predictions follow the settings."
    return (
        f"{name}: no skill beyond the mean. It would need at most {NEEDED:g} times the mean's squared error on studies left out, and to be "
        f"{NATS:g} nats more likely than the mean on all trials; predictions are those of the mean."
    )


def _next(proposed: Sequence[Advised], file: str | None) -> Iterator[Block]:
    if not proposed:
        return
    yield _table(
        f"The grid of {len(proposed)} trials that lessens the uncertainty about the {LEADING} leading settings most: the summed predicted "
        "variances of their reliability and harm.",
        proposed,
    )
    if file is not None:
        yield Text(f"As a study: kp study {file} --dry-run")


def _experience(rows: pl.DataFrame) -> Table:
    spans = ("parameters", "facts", "rank", "learning_rate", "exposures", "replayed")
    caption = "Trials by study, with the range of each knob; size is that of the base model. experience.csv has every row and its origin."
    head = columns("study", "trials", "size", "N", "rank", "learning rate", "exposures", "replayed")
    grouped = rows.group_by("study", maintain_order=True)
    found = (Row((str(study), str(len(trials)), *(_span(trials[name]) for name in spans))) for (study,), trials in grouped)
    return Table(caption, head, tuple(found))


def _span(values: pl.Series) -> str:
    ends = (float(values.min()), float(values.max()))  # type: ignore[arg-type]
    return " to ".join(dict.fromkeys(_size(end).replace(" million", "M").replace(" billion", "B") for end in ends))


def _size(count: float) -> str:
    if count >= 1e9:
        return f"{count / 1e9:.3g} billion"
    return f"{count / 1e6:.3g} million" if count >= 1e6 else f"{count:,.4g}"
