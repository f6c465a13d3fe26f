"""`kp compare`: two finished studies, or two committed results, on one page."""

from pathlib import Path

from kp.config.study import ReportConfig
from kp.errors import UserError
from kp.report.compare_page import Compared, compare_page
from kp.report.html import render_html
from kp.report.markdown import render_markdown
from kp.report.reading import read_report
from kp.report.tables import ReportContext
from kp.report.writing import CONTEXT_FILE
from kp.study.session import shown


def compare_studies(first: Path, second: Path, to: Path) -> int:
    """Write compare.html and compare.md into `to`, which is made; UserError naming the folder that is no report."""
    page = compare_page(*(_read(folder) for folder in (first, second)))
    try:
        to.mkdir(parents=True, exist_ok=True)
        (to / "compare.md").write_text(render_markdown(page), encoding="utf-8")
        (to / "compare.html").write_text(render_html(page, {}), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{to}: cannot be written: {error.strerror}", field="--to") from error
    print("\n".join(page.answer))
    print(f"compared: {shown(to / 'compare.html')}")
    return 0


def _read(folder: Path) -> Compared:
    """The report in this folder, or in its folder `report`."""
    found = next((one for one in (folder, folder / "report") if (one / CONTEXT_FILE).is_file()), None)
    if found is None:
        raise UserError(f"{folder}: no report there; give the folder of a finished study, such as runs/quickstart, or of committed results")
    context = ReportContext.load(found / CONTEXT_FILE)
    tables, _ = read_report(found, ReportConfig(margin=context.margin))
    return Compared(context.study, tables, context)
