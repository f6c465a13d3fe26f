"""Unreadable lines are counted by their fault and have a limit; a dump without a triple says what it has instead."""

from pathlib import Path

import pytest

from kp.errors import UserError
from kp.facts.dump.readable import WORDING, unreadable_lines, validate_readable
from kp.facts.dump.reading import read_graph
from kp.facts.dump.reasons import SetAside
from tests.dump_lines import ONTOLOGY, RESOURCE, statement, write_dump

GOOD = [statement(f"S{number}", "child", f"O{number}") for number in range(18)]


def graph(tmp_path: Path, lines: list[str]) -> Path:
    read_graph(str(write_dump(tmp_path / "dump.nt", lines)), tmp_path / "graph", 1)
    return tmp_path / "graph"


def refusal(folder: Path, limit: float) -> str:
    with pytest.raises(UserError) as caught:
        validate_readable(folder, "dump.nt", limit)
    assert caught.value.field == "facts.source"
    assert "template" not in caught.value.message
    return caught.value.message


def test_more_unreadable_lines_than_allowed_are_told_by_their_faults_with_examples(tmp_path: Path) -> None:
    folder = graph(tmp_path, ["# comment", "", *GOOD, GOOD[0][:-2], GOOD[1][:-2], GOOD[2].replace("O2", "O 2")])
    validate_readable(folder, "dump.nt", 3 / 21)
    assert refusal(folder, 0.14).splitlines() == [
        "'dump.nt': 3 of 21 lines unreadable (14.3%), more than facts.max_rejected_fraction = 0.14 allows",
        f"  2 lines without the dot at the end, for example {tmp_path}/dump.nt, line 21: {GOOD[0][:-2]!r}; "
        f"{tmp_path}/dump.nt, line 22: {GOOD[1][:-2]!r}",
        f"  1 lines with an IRI that is not valid, for example {tmp_path}/dump.nt, line 23: {GOOD[2].replace('O2', 'O 2')!r}",
        "Correct the source, or raise facts.max_rejected_fraction to continue without these lines.",
    ]
    assert len(unreadable_lines(folder)) == 2


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "'dump.nt': is empty"),
        (["# a comment", "", "# another"], "'dump.nt': has no statement, only 3 comments and blank lines"),
        (
            [f'<{RESOURCE}Ann> <{ONTOLOGY}name> "Ann"@en .'] * 3,
            "none of its 3 lines is a triple between two entities:\n  3 lines with a literal",
        ),
        (["garbage"], "none of its 1 lines is a triple between two entities:\n  1 lines no statement of any kind"),
    ],
)
def test_dump_without_a_triple_says_what_it_has(tmp_path: Path, lines: list[str], said: str) -> None:
    assert said in refusal(graph(tmp_path, lines), 1.0)


def test_dump_that_is_whole_has_nothing_to_say(tmp_path: Path) -> None:
    folder = graph(tmp_path, GOOD)
    validate_readable(folder, "dump.nt", 0.0)
    assert unreadable_lines(folder) == []


def test_every_reason_has_its_words() -> None:
    assert set(WORDING) == set(SetAside)
