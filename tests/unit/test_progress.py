"""A terminal gets a bar, everything else plain lines."""

import io
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.table import Table

from kp.progress import Bar, Display

CONTROL_CODE = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time of bars, in seconds; a test sets `now`."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("kp.progress.time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_bar_not_on_a_terminal_prints_plain_lines() -> None:
    out = io.StringIO()
    display = Display(Console(file=out))
    with display.bar("categorise", 100, "prompts") as bar:
        bar.update(50)
    display.line("[trial] done")
    assert out.getvalue().splitlines() == ["categorise: 100 prompts", "[trial] done"]


def test_bar_not_on_a_terminal_says_rate_and_time_left_at_times_and_what_an_earlier_run_did(clock: SimpleNamespace) -> None:
    out = io.StringIO()
    with Display(Console(file=out)).bar("categorise", 720, "prompts") as bar:
        bar.resume(120)
        for clock.now, done in ((10.0, 180), (20.0, 320), (21.0, 321), (40.0, 420)):
            bar.update(done)
    assert out.getvalue().splitlines() == [
        "categorise: 720 prompts",
        "categorise: 120 of 720 prompts already done, not redone",
        "categorise: 320 of 720 prompts, 14.0 prompts/s, 0:00:29 left",
        "categorise: 420 of 720 prompts, 8.0 prompts/s, 0:00:38 left",
    ]


@pytest.mark.parametrize("total", [3600, 19_000_000])
def test_bar_on_a_terminal_of_80_columns_shows_count_rate_and_time_left_within_them(total: int, clock: SimpleNamespace) -> None:
    out = io.StringIO()
    display = Display(Console(file=out, force_terminal=True, width=80, color_system=None))
    with display.bar("categorise", total, "prompts") as bar:
        bar.resume(total // 4)
        bar.update(total // 4 + 1)
        clock.now += (total // 4 - 1) / 300
        bar.update(total // 2)
    lines = CONTROL_CODE.sub("", out.getvalue()).replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= 80
    left = "0:00:06" if total == 3600 else "8:47:47"
    assert re.fullmatch(rf"categorise ━+ +{total // 2}/{total} 300\.0 prompts/s \d:\d\d:\d\d {left} left *", lines[-1])


def test_bar_rate_counts_neither_what_an_earlier_run_did_nor_the_start_of_workers(clock: SimpleNamespace) -> None:
    bar = Bar(100, "prompts")
    bar.resume(60)
    clock.now += 500
    bar.update(70)
    assert (bar.rate(), bar.left_text()) == (0.0, "")
    clock.now += 2
    bar.update(90)
    assert (bar.rate(), bar.left_text()) == (10.0, "0:00:01 left")


def test_quiet_sends_what_others_print_to_the_log_and_lets_the_display_through(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    display = Display()
    with display.quiet(tmp_path / "log"):
        os.write(1, b"noise from C\n")
        print("noise from Python", file=sys.stderr, flush=True)
        display.line("what matters")
    print("afterwards", flush=True)
    assert capfd.readouterr().out.splitlines() == ["what matters", "afterwards"]
    assert "noise from C" in (tmp_path / "log").read_text()


def test_display_shows_names_as_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    display = Display()
    display.line("facts: read hf:team/birds:dog: and [red]rows[/red].csv")
    table = Table("work")
    table.add_row("110 facts from [red]rows.csv")
    display.console.print(table)
    shown = capfd.readouterr().out
    assert "hf:team/birds:dog: and [red]rows[/red].csv" in shown
    assert "110 facts from [red]rows.csv" in shown
