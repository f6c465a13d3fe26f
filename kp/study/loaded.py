"""A finished study in Python: its tables as polars frames, its pictures, its adapters.

Everything is read from the study's report, so no model is loaded, no Ray started, and a committed result loads as a study's folder does.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from kp.errors import UserError
from kp.report.answer import answer_text
from kp.report.figure_data import Picture
from kp.report.figures_print import METADATA, picture_bytes
from kp.report.pictures import pictures
from kp.report.reading import reopen_report
from kp.report.summary import summary_table
from kp.report.tables import OPTIONAL, SCHEMAS, ReportContext
from kp.report.winners import evidence
from kp.study.finished_adapters import find_adapter


class StudyFigure:
    """A picture of the report; a notebook shows it as SVG."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def _repr_svg_(self) -> str:
        return picture_bytes(self._picture, "svg").decode()

    def save(self, file: str | Path) -> Path:
        """Write it as .png or .svg; raises UserError for another ending."""
        path = Path(file)
        ending = path.suffix.removeprefix(".")
        if ending not in METADATA:
            raise UserError(f"{path}: a figure is written as {' or '.join(f'.{one}' for one in METADATA)}")
        path.write_bytes(picture_bytes(self._picture, ending))
        return path


class LoadedStudy:
    """A finished study; every frame of its report is an attribute, and `tables` names them.

    The frames have the columns of the tables in kp.schema and kp.metrics.result_schema; `.to_pandas()` makes a pandas frame of one.
    """

    facts: pl.DataFrame  # FACTS
    outcomes: pl.DataFrame  # OUTCOMES, one row a fact, model and shot set, with trial_id "base"
    effects: pl.DataFrame  # EFFECTS, with intervals and verdicts
    shifts: pl.DataFrame  # SHIFTS
    scores: pl.DataFrame  # SCORES
    benchmarks: pl.DataFrame  # BENCHMARKS
    epochs: pl.DataFrame  # EPOCHS

    def __init__(self, folder: Path) -> None:
        """Raises UserError if the folder has no report, or one of another form."""
        self.folder = folder
        self._tables, self._context = reopen_report(folder)

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of all frames."""
        optional = (name for name in OPTIONAL if getattr(self._tables, name) is not None)
        return (*(name for name in SCHEMAS if name != "trials"), "trials", *optional)

    @cached_property
    def trials(self) -> pl.DataFrame:
        """One row a trial: its knobs, how it ended, what it packed and what it lost; rates are shares, differences are against the base."""
        return summary_table(self._tables)

    def __getattr__(self, name: str) -> pl.DataFrame:
        if not name.startswith("_") and name in self.tables:
            frame: pl.DataFrame = getattr(self._tables, name)
            return frame
        if name in OPTIONAL:
            raise AttributeError(f"study '{self._context.study}' did not measure '{name}'; it has {', '.join(self.tables)}")
        raise AttributeError(f"a study has no '{name}'; its frames are {', '.join(self.tables)}")

    @property
    def config(self) -> Mapping[str, Any]:
        """The study file as it was resolved, defaults included, by section and field."""
        return self._context.config

    @property
    def context(self) -> ReportContext:
        """The circumstances: model and revision, versions, hardware, wall times."""
        return self._context

    @property
    def statement(self) -> str:
        """What the report opens with."""
        return answer_text(self._tables, self._context.margin)

    @cached_property
    def figures(self) -> dict[str, StudyFigure]:
        """The pictures for which the study has data, by name."""
        drawn = pictures(self._tables, evidence(self._tables, self.trials), self._context.matcher, self._context.margin)
        return {name: StudyFigure(picture) for name, picture in drawn.items()}

    def figure(self, name: str = "packed_against_lost") -> StudyFigure:
        """One of `figures`; raises UserError listing them if there is none of this name."""
        if name not in self.figures:
            raise UserError(f"study '{self._context.study}' has no figure '{name}'; there are {', '.join(self.figures)}")
        return self.figures[name]

    def adapter(self, trial: str) -> Path:
        """The folder, in PEFT's format, of a trial's adapter, named by the beginning of the trial's id or by its label; `TRIAL@0.5` is that
        at another scale. Raises UserError listing the adapters that exist."""
        return find_adapter(self.folder, trial).folder

    def __repr__(self) -> str:
        return f"<study '{self._context.study}' of {self._context.model_name}: {len(self.facts):,} facts, {len(self.trials):,} trials>"
