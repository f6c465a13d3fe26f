"""From a study's tables to a readable report.

Everything here except `write_report` is pure and needs neither ray nor torch, so a report can be made again anywhere from the tables alone.
"""
