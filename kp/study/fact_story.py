"""One fact's story in a finished study, read from its report and, where they are still there, from the raw answers of its steps.

The report's record names the steps that it was made of, and a results root has their folders beside that of the report: so no model is
loaded, and a committed result, which has no such folders, tells everything but the answers under each prompt.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from kp import schema
from kp.config.study import load_study
from kp.errors import UserError
from kp.metrics.outcomes import fact_roles
from kp.metrics.result_schema import FACT_STORIES
from kp.report.reading import find_report
from kp.report.tables import ReportContext
from kp.report.writing import CONTEXT_FILE
from kp.store import files
from kp.store.filenames import ANSWERS_FILE
from kp.store.steps import RECORD
from kp.study.finished_adapters import study_folder
from kp.study.measurements.answers import NAME as ANSWERS_KIND
from kp.vocabulary import BASE, Part

FACT_FIELD = "FACT"  # the argument, in messages
STUDY_FIELD = "--study"
OF_BASE = ("categorise", "repeat")  # the kinds of steps that ask the base
MOST_CANDIDATES = 10  # that are listed


@dataclass(frozen=True)
class Report:
    """The tables of a report that tell of facts, and the folder of the steps that it was made of, if that is there."""

    folder: Path
    context: ReportContext
    facts: pl.DataFrame  # FACTS
    steps: Path | None

    def table(self, name: str, wanted: pa.Schema) -> pl.DataFrame | None:
        """A table of the report; None if it has none of this name. Raises UserError if it has another schema."""
        file = self.folder / "tables" / f"{name}.parquet"
        return schema.frame(schema.read_table(file, wanted)) if file.is_file() else None

    def required(self, name: str, wanted: pa.Schema) -> pl.DataFrame:
        """The same of a table that every report has; raises UserError if it is missing."""
        return schema.frame(schema.read_table(self.folder / "tables" / f"{name}.parquet", wanted))


@dataclass(frozen=True)
class FactStory:
    """What became of one fact; every frame has the rows of this fact alone."""

    study: str
    matcher: str
    fact: dict[str, Any]
    """Its row of FACTS."""
    part: str
    """pool, control_dev or control_test; pool if the study keeps no facts out of training."""
    outcomes: pl.DataFrame
    """OUTCOMES, of the base too."""
    trials: pl.DataFrame
    """trial_id, label, status and role of every trial, in the report's order; the role is null where it is unknown."""
    answers: pl.DataFrame | None
    """ANSWERS with a trial_id, by model, shot set and prompt; None without the raw answers."""
    stories: pl.DataFrame | None
    """FACT_STORIES: the most frequent answer of each model; None if the report lacks them."""
    epochs: pl.DataFrame | None
    """FACT_EPOCHS of the trials that asked it after epochs; None if the report lacks them."""

    @property
    def lost(self) -> tuple[str, ...]:
        """The trials whose adapter gives fewer right answers than the base on the same prompts, over all shot sets that both were asked."""
        return tuple(trial for trial in self.trials["trial_id"] if (change := self.change(trial)) is not None and change < 0)

    def change(self, trial_id: str) -> float | None:
        """Difference of the shares of right answers, adapter - base, on the shot sets that both were asked; None if it is not measured."""
        of_base = self.outcomes.filter(trial_id=BASE).select("shot_set", base="correct")
        both = self.outcomes.filter(trial_id=trial_id).join(of_base, on="shot_set")
        gained = pl.col("correct").sum() - pl.col("base").sum()
        return float(both.select(gained / pl.col("asked").sum()).item()) if len(both) else None

    def learned_epoch(self, trial_id: str) -> int | None:
        """The first epoch from which on a trial had every one of the fact's answers right until it ended; None if there is none."""
        rows = self.epochs.filter(trial_id=trial_id).sort("epoch") if self.epochs is not None else None
        found: int | None = None
        for row in rows.iter_rows(named=True) if rows is not None else ():
            right = row["correct"] == row["asked"]
            found = (row["epoch"] if found is None else found) if right else None
        return found


def open_report(study: Path, results: Path) -> Report:
    """The report of a study file (in the folder `results`), of a study's folder, or a committed one; UserError if there is none."""
    folder = study_folder(load_study(study), results) if study.suffix == ".toml" else study
    found = find_report(folder)
    context = ReportContext.load(found / CONTEXT_FILE)
    facts = schema.frame(schema.read_table(found / "tables" / "facts.parquet", schema.FACTS))
    steps = found.resolve().parents[1]
    return Report(found, context, facts, steps if (steps / ANSWERS_KIND).is_dir() else None)


def find_fact(facts: pl.DataFrame, wanted: str) -> dict[str, Any]:
    """The one fact (FACTS) that is named by its id, the id's beginning, or words of its question; UserError listing the candidates."""
    words = wanted.casefold().split()
    for found in (_by_id(facts, wanted), _by_words(facts, words)):
        if len(found) == 1:
            return found.row(0, named=True)
        if len(found) > 1:
            listed = "".join(f"\n  {row['fact_id']}  {row['question']}" for row in found.head(MOST_CANDIDATES).iter_rows(named=True))
            more = f"\n  and {len(found) - MOST_CANDIDATES} more" if len(found) > MOST_CANDIDATES else ""
            raise UserError(f"'{wanted}' names {len(found)} facts; give the id of one, or more words:{listed}{more}", field=FACT_FIELD)
    raise UserError(
        f"'{wanted}' names none of the {len(facts):,} facts of this study; give an id, how one begins, or words of a question",
        field=FACT_FIELD,
    )


def _by_id(facts: pl.DataFrame, wanted: str) -> pl.DataFrame:
    return facts.filter(pl.col("fact_id").str.starts_with(wanted.strip())) if wanted.strip() else facts.clear()


def _by_words(facts: pl.DataFrame, words: list[str]) -> pl.DataFrame:
    """Those whose question has all the words; of several, those in which they stand together in this order, if there are any."""
    if not words:
        return facts
    question = pl.col("question").str.to_lowercase()
    all_words = facts.filter(pl.all_horizontal(question.str.contains(word, literal=True) for word in words))
    together = all_words.filter(question.str.contains(" ".join(words), literal=True))
    exact = together.filter(question == " ".join(words))
    return exact if len(exact) else together if len(together) else all_words


def fact_story(report: Report, wanted: str) -> FactStory:
    """The story of the fact that `wanted` names; raises UserError if it names none or several."""
    fact = find_fact(report.facts, wanted)
    fact_id = fact["fact_id"]
    outcomes = report.required("outcomes", schema.OUTCOMES).filter(fact_id=fact_id)
    parts, stories = report.table("parts", schema.PARTS), report.table("fact_stories", FACT_STORIES)
    epochs = report.table("fact_epochs", schema.FACT_EPOCHS)
    return FactStory(
        study=report.context.study,
        matcher=report.context.matcher.value,
        fact=fact,
        part=Part.POOL.value if parts is None else parts.filter(fact_id=fact_id)["part"].item(),
        outcomes=outcomes,
        trials=_trials(report, fact_id, outcomes),
        answers=_raw_answers(report, fact_id),
        stories=None if stories is None else stories.filter(fact_id=fact_id),
        epochs=None if epochs is None else epochs.filter(fact_id=fact_id),
    )


def _trials(report: Report, fact_id: str, outcomes: pl.DataFrame) -> pl.DataFrame:
    """Every trial with the fact's role: as measured, or, of a trial without outcomes, from what it was trained on."""
    summary = pl.read_parquet(report.folder / "tables" / "summary.parquet", columns=["trial_id", "label", "status"])
    known = dict(outcomes.filter(pl.col("trial_id") != BASE).select("trial_id", "role").unique().iter_rows())
    roles = [known.get(trial_id) or _trained_role(report, trial_id, fact_id) for trial_id in summary["trial_id"]]
    return summary.with_columns(role=pl.Series(roles, dtype=pl.String))


def _trained_role(report: Report, trial_id: str, fact_id: str) -> str | None:
    rows = report.table(f"training_rows/{trial_id}", schema.TRAINING_ROWS)
    if rows is None:
        return None
    return fact_roles([fact_id], training_rows=rows)[fact_id].value


def _raw_answers(report: Report, fact_id: str) -> pl.DataFrame | None:
    """The fact's ANSWERS of the base and of every adapter at full scale, with trial_id; None if the steps are not there."""
    if report.steps is None:
        return None
    tables = []
    for trial_id, file in _answer_files(report, report.steps):
        found = schema.frame(schema.read_table(file, schema.ANSWERS)).filter(fact_id=fact_id)
        tables.append(found.with_columns(trial_id=pl.lit(trial_id)))
    return pl.concat(tables).sort("trial_id", "shot_set", "prompt_index") if tables else None


def _answer_files(report: Report, steps: Path) -> Iterator[tuple[str, Path]]:
    """The model (a trial's id, or BASE) and the answers of every step of the report that asked one about the facts."""
    record = files.read_json(report.folder / RECORD) or {}
    for name, fingerprint in sorted(record.get("inputs", {}).items()):
        kind = name.rpartition("-")[0]
        made = files.read_json(steps / kind / fingerprint / RECORD) if kind in (ANSWERS_KIND, *OF_BASE) else None
        if made is not None and "scale" not in made["literals"]:
            trained = [one for input_name, one in made["inputs"].items() if input_name.startswith("trial-")]
            yield (trained[0] if trained else BASE), steps / kind / fingerprint / ANSWERS_FILE
