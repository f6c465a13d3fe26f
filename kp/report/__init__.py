"""From a study's tables to a report a person can read.

Everything here is pure but for `write_report`, and needs neither ray nor torch, so that a report can be made again anywhere from tables
alone.
"""
