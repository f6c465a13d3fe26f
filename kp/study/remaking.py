"""`kp report --tables`: a report made again from the tables of an earlier one."""

from pathlib import Path

from kp.config.study import load_study
from kp.errors import UserError
from kp.progress import Display
from kp.report.answer import answer_text
from kp.report.reading import read_report
from kp.report.writing import write_report


def remake_report(file: Path, overrides: list[str], folder: Path, to: Path) -> int:
    """Write the report of the tables in `folder` into `to`; of the study's file only the section `report` counts. Returns the exit code."""
    settings = load_study(file, overrides).report
    tables, context = read_report(folder, settings)
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{to}: cannot be made: {error.strerror}; name a new or empty folder", field="--to") from error
    page = write_report(tables, context, to)
    display = Display()
    display.line(answer_text(tables, settings.margin))
    display.line(f"report: {page}")
    return 0
