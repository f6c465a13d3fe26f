"""Every command on a study as a process of its own; what the commands do is tested in one process."""

from pathlib import Path

import polars as pl
import pytest

from tests.conftest import run_kp_process

SAID = {
    "facts": "facts: already done",
    "categorise": "categorise: already done",
    "search": "search: 3 of 3 trials already done, not redone",
    "evaluate": "evaluate: 24 of 24 measurements already done, not redone",
    "report": "report: already done",
    "study": "report: already done",
    "audit": "refus",
    "noise": "fall in category",
    "trials": "3 trials: 3 completed",
}


@pytest.mark.parametrize("command", SAID)
def test_command_on_a_finished_study_starts_no_ray_and_says_how_it_stands(command: str, tiny_study: Path, tiny_copy: Path) -> None:
    done = run_kp_process(command, tiny_study, "--results", tiny_copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert SAID[command] in done.stdout
    assert "starting Ray" not in done.stdout
    assert "\x1b[" not in done.stdout


def test_report_made_again_from_its_tables_alone_is_the_same(tiny_study: Path, tiny_copy: Path, tmp_path: Path) -> None:
    before = tiny_copy / "tiny" / "report"
    done = run_kp_process("report", tiny_study, "--tables", before, "--to", tmp_path / "again")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "again" / "report.md").read_text() == (before / "report.md").read_text()
    for table in sorted((before / "tables").rglob("*.parquet")):
        assert pl.read_parquet(tmp_path / "again" / table.relative_to(before)).equals(pl.read_parquet(table)), table.name


def test_command_that_fails_says_so_in_one_line_and_exits_with_2(tmp_path: Path) -> None:
    done = run_kp_process("study", tmp_path / "none.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("kp: ")
    assert "none.toml" in done.stderr
    assert len(done.stderr.splitlines()) == 1
