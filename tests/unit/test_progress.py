"""A terminal gets a bar, everything else plain lines."""

import io
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console

from kp.progress import Bar, Display


def test_bar_not_on_a_terminal_prints_plain_lines() -> None:
    out = io.StringIO()
    display = Display(Console(file=out))
    with display.bar("categorise", 100, "prompts") as bar:
        bar.update(50)
    display.line("[trial] done")
    assert out.getvalue().splitlines() == ["categorise: 100 prompts", "[trial] done"]


def test_bar_on_a_terminal_of_80_columns_stays_within_them() -> None:
    out = io.StringIO()
    display = Display(Console(file=out, force_terminal=True, width=80, color_system=None))
    with display.bar("categorise", 3600, "prompts") as bar:
        bar.update(1800)
    assert "1800/3600" in out.getvalue()
    lines = out.getvalue().replace("\x1b[2K", "").replace("\x1b[?25l", "").replace("\x1b[?25h", "").replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= 90  # the control codes left count too


def test_bar_rate_does_not_count_what_an_earlier_run_did() -> None:
    bar = Bar(100, "prompts")
    bar.update(60)
    assert bar.rate() == 0.0
    bar.update(70)
    assert bar.rate() > 0


def test_quiet_sends_what_others_print_to_the_log_and_lets_the_display_through(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    display = Display()
    with display.quiet(tmp_path / "log"):
        os.write(1, b"noise from C\n")
        print("noise from Python", file=sys.stderr, flush=True)
        display.line("what matters")
    print("afterwards", flush=True)
    assert capfd.readouterr().out.splitlines() == ["what matters", "afterwards"]
    assert "noise from C" in (tmp_path / "log").read_text()
