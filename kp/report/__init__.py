"""From a study's tables to a report a person can read.

Everything here is pure but for `write_report`, and needs neither ray nor torch, so that a report can be made again anywhere from tables
alone.
"""

from kp.report.answer import answer_paragraph
from kp.report.labels import arm_label
from kp.report.summary import summary_table
from kp.report.tables import ReportContext, ReportTables
from kp.report.writing import write_report

__all__ = ["ReportContext", "ReportTables", "answer_paragraph", "arm_label", "summary_table", "write_report"]
