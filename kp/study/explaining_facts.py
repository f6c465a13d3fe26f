"""`kp explain FACT --study STUDY`: the story of one fact, as text of at most 80 columns or as JSON."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from kp.errors import UserError, printable
from kp.report.notation import MINUS, MISSING
from kp.report.terminal import WIDTH
from kp.study.fact_story import FACT_FIELD, FactStory, fact_story, open_report
from kp.vocabulary import BASE, FactRole

_MEASURED = "S1"  # on which adapters are compared with the base, with and without raw answers


def explain_fact(wanted: str | None, study: Path, results: Path, *, as_json: bool) -> int:
    """Print the story of a fact; raises UserError if the study has no report, or not one fact of this name."""
    if wanted is None:
        raise UserError("name a fact: its id, how that begins, or words of its question", field=FACT_FIELD)
    story = fact_story(open_report(study, results), wanted)
    print(json.dumps(plain(story), indent=1, ensure_ascii=False) if as_json else printable("\n".join(text_lines(story))))
    return 0


def plain(story: FactStory) -> dict[str, Any]:
    """The story as plain JSON; `answers`, `most_frequent` and `epochs` are null where the study's folder lacks them."""
    trials = [
        row | {"learned_epoch": story.learned_epoch(row["trial_id"]), "change": story.change(row["trial_id"])}
        for row in story.trials.to_dicts()
    ]
    tables = {"answers": story.answers, "most_frequent": story.stories, "epochs": story.epochs}
    return {
        "study": story.study,
        "matcher": story.matcher,
        "fact": story.fact,
        "part": story.part,
        "trials": trials,
        "lost": list(story.lost),
        "outcomes": story.outcomes.drop("fact_id").to_dicts(),
        **{name: None if table is None else table.drop("fact_id").to_dicts() for name, table in tables.items()},
    }


def text_lines(story: FactStory) -> Iterator[str]:
    """The story line by line."""
    fact = story.fact
    yield from _row("fact", f"{fact['fact_id']} of {story.study}")
    yield from _row("question", fact["question"])
    yield from _row("answer", fact["answers"][0])
    if fact["answers"][1:]:
        yield from _row("aliases", "; ".join(fact["answers"][1:]))
    yield from _row("relation", f"{fact['relation'].replace('_', ' ')}; part: {story.part.replace('_', ' ')}")
    yield ""
    yield "The base"
    yield from _model_lines(story, BASE)
    for row in story.trials.iter_rows(named=True):
        yield ""
        yield from textwrap.wrap(f"{row['trial_id'][:8]} {row['label']}", WIDTH, subsequent_indent="  ")
        yield from _said("role", _role_text(story, row))
        yield from _model_lines(story, row["trial_id"])
    yield ""
    yield from _lost_lines(story)
    yield from _missing_lines(story)


def _model_lines(story: FactStory, trial_id: str) -> Iterator[str]:
    """Categories of one model, then what it said."""
    outcomes = story.outcomes.filter(trial_id=trial_id).sort("shot_set")
    if outcomes.is_empty():
        yield from _said("measured", "no")
    for row in outcomes.iter_rows(named=True):
        refused = f", {row['refused']} refused" if row["refused"] else ""
        yield from _said(row["shot_set"], f"{row['category']}, {row['correct']} of {row['asked']} right{refused}")
        if story.answers is not None:
            yield from _answer_lines(story, story.answers.filter(trial_id=trial_id, shot_set=row["shot_set"]))
        elif row["shot_set"] == _MEASURED and story.stories is not None:
            yield from _most_frequent(story.stories.filter(trial_id=trial_id))


def _answer_lines(story: FactStory, answers: pl.DataFrame) -> Iterator[str]:
    """One line a prompt: its number, whether the answer is right, and the answer's first line."""
    for row in answers.sort("prompt_index").iter_rows(named=True):
        mark = "right" if row[f"match_{story.matcher}"] else "refused" if row["refused"] else "wrong"
        others = [name for name in ("strict", "exact", "released") if row[f"match_{name}"] != row[f"match_{story.matcher}"]]
        differs = f" ({', '.join(others)}: {'wrong' if mark == 'right' else 'right'})" if others else ""
        line = (row["answer"].strip().splitlines() or [""])[0]
        head = f"      {row['prompt_index'] + 1:>2} {mark:<8}"
        yield head + textwrap.shorten(line, WIDTH - len(head) - len(differs), placeholder=" ...") + differs


def _most_frequent(stories: pl.DataFrame) -> Iterator[str]:
    for row in stories.filter(pl.col("answer").is_not_null()).iter_rows(named=True):
        text = f"      most often ({row['answer_count']} times): {row['answer']}"
        yield from textwrap.wrap(text, WIDTH, subsequent_indent="        ")


def _role_text(story: FactStory, row: dict[str, Any]) -> str:
    role = (row["role"] or MISSING).replace("_", " ")
    if row["role"] != FactRole.TRAINED:
        return role
    asked = None if story.epochs is None else story.epochs.filter(trial_id=row["trial_id"]).sort("epoch")
    if asked is None or asked.is_empty():
        return f"{role}; after which epoch it was learned is not kept"
    learned = story.learned_epoch(row["trial_id"])
    steps = " ".join(f"{one['correct']}/{one['asked']}" for one in asked.iter_rows(named=True))
    when = f"learned in epoch {learned}" if learned else "not learned at the end"
    return f"{role}, {when} (right answers after each epoch: {steps})"


def _lost_lines(story: FactStory) -> Iterator[str]:
    labels = dict(story.trials.select("trial_id", "label").iter_rows())
    measured = [trial_id for trial_id in labels if story.change(trial_id) is not None]
    if not measured:
        yield "No adapter was asked about it."
        return
    yield f"Lost by {len(story.lost)} of {len(measured)} adapters (fewer right answers than the base, same prompts)"
    for trial_id in story.lost:
        points = f"{100 * (story.change(trial_id) or 0):.0f}".replace("-", MINUS)
        yield from textwrap.wrap(f"  {points} points: {trial_id[:8]} {labels[trial_id]}", WIDTH, subsequent_indent="    ")


def _missing_lines(story: FactStory) -> Iterator[str]:
    """What the folder lacks, and where it would be."""
    missing = []
    if story.answers is None:
        missing.append("the raw answers, by prompt (in the results root of the study that was run)")
    if story.stories is None:
        missing.append("the most frequent answers (tables/fact_stories.parquet)")
    if story.epochs is None:
        missing.append("what was right after each epoch (tables/fact_epochs.parquet, of trials trained since kp keeps it)")
    if missing:
        yield ""
        yield from textwrap.wrap(f"Not in this folder: {'; '.join(missing)}.", WIDTH)


def _row(name: str, text: str) -> list[str]:
    return textwrap.wrap(f"{name:<10}{text}", WIDTH, subsequent_indent=" " * 10)


def _said(name: str, text: str) -> list[str]:
    return textwrap.wrap(f"  {name:<9}{text}", WIDTH, subsequent_indent=" " * 11)
