"""A report's tables on a terminal: the same cells as in the files, at most 80 columns wide."""

from rich.table import Table as TerminalTable

from kp.errors import printable
from kp.report.document import Table

WIDTH = 80  # columns


def terminal_table(table: Table) -> TerminalTable:
    """One table with its caption above it; long cells are wrapped."""
    shown = TerminalTable(title=table.caption, title_justify="left", title_style="", width=None, min_width=40)
    for column in table.columns:
        shown.add_column(column.title, justify="right" if column.numeric else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*map(printable, row.cells))
    return shown
