"""What others wrote does not command the terminal: error lines, lines of progress, tables."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from kp.cli import main
from kp.errors import printable
from kp.progress import Display
from kp.report.document import Column, Row, Table
from kp.report.terminal import terminal_table

ATTACK = "\x1b[2J\x9b31mred\x07\x08\r"


def test_printable_text_keeps_letters_and_lines() -> None:
    assert printable("Čapek\n\t東京 −1") == "Čapek\n\t東京 −1"
    assert printable(ATTACK) == "\ufffd[2J\ufffd31mred\ufffd\ufffd\ufffd"


def test_lines_and_tables_hold_no_control_characters() -> None:
    out = io.StringIO()
    Display(Console(file=out, markup=False)).line(f"facts: {ATTACK}")
    table = Table("a table", (Column("answer"),), (Row((ATTACK,)),))
    Console(file=out).print(terminal_table(table))
    assert "red" in out.getvalue()
    assert not set(out.getvalue()) & set("\x1b\x9b\x07\x08\r")


def test_error_that_quotes_a_name_holds_none_either(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "\x1b[31mred").touch()
    study = tmp_path / "study.toml"
    study.write_text('name = "s"\n[facts]\nsource = "builtin"\n[training]\nlora_alpha = 16\n', encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        main(["facts", str(study), "--results", str(tmp_path / "\x1b[31mred")])
    said = capsys.readouterr().err
    assert (end.value.code, "\ufffd[31mred: is a file" in said, "\x1b" in said) == (2, True, False)
