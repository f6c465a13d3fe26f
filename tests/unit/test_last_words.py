"""The end of a log is fit for a record: bounded, printable and without secrets."""

from pathlib import Path

import pytest

from kp.cluster.last_words import MOST_BYTES, MOST_CHARACTERS, MOST_LINES, tail_of


def test_tail_of_a_log_is_its_last_lines_without_the_marks_of_ray(tmp_path: Path) -> None:
    log = tmp_path / "worker.err"
    log.write_text(":job_id:01000000\n:actor_name:RayTrainWorker\nfirst\n\n  second  \n", encoding="utf-8")
    assert tail_of(str(log)).splitlines() == ["first", "  second"]


def test_tail_of_a_huge_log_is_bounded_in_lines_and_in_their_length(tmp_path: Path) -> None:
    log = tmp_path / "worker.err"
    log.write_text("x" * (3 * MOST_BYTES) + "\n" + "".join(f"line {number} {'y' * 1000}\n" for number in range(100)), encoding="utf-8")
    lines = tail_of(str(log)).splitlines()
    assert len(lines) <= MOST_LINES
    assert lines[-1].startswith("line 99 ")
    assert all(len(line) <= MOST_CHARACTERS for line in lines)


def test_tail_of_a_log_cannot_command_a_terminal_and_tells_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    log = tmp_path / "worker.err"
    log.write_bytes(b"\x1b[31m401 for hf_abcdefgh\xff")
    assert tail_of(str(log)) == "\ufffd[31m401 for [HF_TOKEN]\ufffd"


def test_tail_of_a_log_that_is_gone_is_empty(tmp_path: Path) -> None:
    assert tail_of(str(tmp_path / "gone.err")) == ""
