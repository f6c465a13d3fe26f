"""`kp compare`: two finished studies, or two committed results, on one page."""

from pathlib import Path

from kp.errors import UserError, printable
from kp.report.compare_page import Compared, compare_page
from kp.report.html import render_html
from kp.report.markdown import render_markdown
from kp.report.reading import reopen_report
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
    print(printable("\n".join(page.answer)))
    print(printable(f"compared: {shown(to / 'compare.html')}"))
    return 0


def _read(folder: Path) -> Compared:
    tables, context = reopen_report(folder)
    return Compared(context.study, tables, context)
