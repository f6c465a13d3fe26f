"""`kp plan`: the experience of the results on this machine and of the package, and the page, picture and study file made of it."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from kp.advice import experience
from kp.advice.page import PICTURE, plan_page
from kp.advice.picture import packed_by_rank
from kp.advice.plain import plain_text
from kp.advice.prediction import fit_predictor
from kp.advice.proposing import MOST, propose, study_file
from kp.advice.recommending import Advised, Question, advise
from kp.advice.targets import Target
from kp.config.study import ModelConfig
from kp.errors import UserError
from kp.models.names import EMBEDDED
from kp.models.shapes import model_shape
from kp.report.figures_print import save_picture
from kp.report.markdown import render_markdown
from kp.report.reading import reopen_report
from kp.report.writing import CONTEXT_FILE

STUDY_FILE, TABLE_FILE, TEXT_FILE, MARKDOWN_FILE = "next.toml", "experience.csv", "plan.txt", "plan.md"


def plan_facts(
    facts: int,
    tolerance: float,
    model: str | None,
    parameters: float | None,
    results: Sequence[Path],
    ranks: Sequence[int],
    trials: int,
    to: Path,
) -> int:
    """Write plan.txt, plan.md, experience.csv, the picture and next.toml into `to`, and print the first; returns the exit code.

    Raises UserError naming the option that is wrong, or the folder without trials.
    """
    _validate(facts, tolerance, ranks, trials)
    size = parameters_of(model or EMBEDDED, parameters)
    rows = experience.together(*(experience_of(folder, size if parameters else None) for folder in results), experience.shipped())
    reliability, harm = (fit_predictor(rows, target) for target in Target)
    advice = advise(reliability, harm, Question(facts, tolerance, size, tuple(ranks)))
    proposed: list[Advised] = []
    if trials:
        chosen = propose(advice, (reliability, harm), trials)
        by_setting = {one.setting: one for one in advice.near}
        proposed = [by_setting[setting] for setting in chosen]
    page = plan_page(rows, (reliability, harm), advice, proposed, str(to / STUDY_FILE) if proposed else None)
    text = plain_text(page)
    try:
        (to / "figures").mkdir(parents=True, exist_ok=True)
        save_picture(packed_by_rank(reliability, advice), to / "figures", PICTURE)
        (to / TEXT_FILE).write_text(text, encoding="utf-8")
        (to / MARKDOWN_FILE).write_text(render_markdown(page), encoding="utf-8")
        (to / TABLE_FILE).write_text(rows.write_csv(), encoding="utf-8")
        if proposed:
            (to / STUDY_FILE).write_text(study_file([one.setting for one in proposed], model or EMBEDDED, tolerance), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{to}: cannot be written: {error.strerror}", field="--to") from error
    print(text)
    print(f"plan: {to / MARKDOWN_FILE}")
    return 0


def experience_of(folder: Path, parameters: float | None = None) -> pl.DataFrame:
    """The EXPERIENCE of a study's folder or of a folder of studies; `parameters` is for base models of unknown size.

    Raises UserError if there is no report, one that this version cannot read, or none whose trials measured reliability or harm.
    """
    reports = reports_below(folder)
    found = [_rows(report, parameters) for report in reports]
    if not found or not sum(map(len, found)):
        raise UserError(
            f"{folder}: no finished trials that measured reliability or harm; give the folder of a study with a report, or of several",
            field="--results",
        )
    return pl.concat(found)


def reports_below(folder: Path) -> list[Path]:
    """The reports in a folder: its own, or those of the studies in it; UserError if there is no such folder."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder", field="--results")
    places = [folder, folder / "report", *sorted(folder.glob("*")), *(one / "report" for one in sorted(folder.glob("*")))]
    return list(dict.fromkeys(place for place in places if (place / CONTEXT_FILE).is_file()))


def _rows(report: Path, parameters: float | None) -> pl.DataFrame:
    try:
        tables, context = reopen_report(report)
    except UserError as error:
        raise UserError(f"{error.message}; make the report again with this version, or leave the folder out", field="--results") from error
    return experience.rows_of_report(tables, context, parameters_of(context.model_name, parameters))


def parameters_of(model: str, stated: float | None = None) -> float:
    """The size of a base model: as stated, or by its shape; UserError if neither is known."""
    if stated is not None:
        if not stated >= 1:
            raise UserError(f"{stated:g}: a model has at least one parameter", field="--model-parameters")
        return stated
    shape = model_shape(ModelConfig(name=model))
    if shape is None or not shape.embeddings:
        raise UserError(f"the size of {model} is not known here; state it, such as 1.2e9", field="--model-parameters")
    return float(shape.parameters)


def _validate(facts: int, tolerance: float, ranks: Sequence[int], trials: int) -> None:
    if facts < 1:
        raise UserError(f"{facts}: at least one fact is packed", field="--facts")
    if not 0 < tolerance < 1:
        raise UserError(f"{tolerance:g}: a share of right answers above 0 and below 1, such as 0.02", field="--tolerance")
    if any(rank < 1 for rank in ranks) or len(set(ranks)) < len(ranks):
        raise UserError("ranks are different whole numbers from 1", field="--rank")
    if not 0 <= trials <= MOST:
        raise UserError(f"{trials}: 0 for none, at most {MOST}", field="--next")
