"""The driver of a large study, at a size that takes minutes; `python -m tests.scale_of_driver` has the whole one."""

from pathlib import Path

import pytest

from tests.scale_of_driver import main


@pytest.mark.slow
def test_driver_settles_answers_that_nobody_gave_into_a_report_within_four_gibibytes(tmp_path: Path) -> None:
    size = ["--facts", "400", "--seeds", "1", "--folder", str(tmp_path)]
    assert main([*size, "--most-gib", "4", "--most-seconds", "3600"]) == 0
    assert (tmp_path / "results" / "scale" / "report" / "report.html").is_file()
