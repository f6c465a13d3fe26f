"""`kp explain`: what a knob is, or what became of a fact."""

from pathlib import Path
from typing import Annotated

import tyro

from kp.commands.application import app

What = Annotated[str | None, tyro.conf.arg(name="what", metavar="[SECTION.KEY | FACT]")]


def _explain(
    what: tyro.conf.Positional[What] = None,
    study: Annotated[Path | None, tyro.conf.arg(metavar="STUDY.toml|FOLDER")] = None,
    results: Path = Path("runs"),
    json: bool = False,
) -> int:
    """Explain a knob of study files, or with --study the story of one fact.

    Args:
        what: A knob (search.rank) or section (search); nothing lists the sections. With --study a fact: its id, the id's beginning, or
            words of its question.
        study: A study that was run, its folder, or committed results: what its models said of the fact.
        results: Folder of all studies' results, for --study STUDY.toml.
        json: Print JSON.
    """
    if study is None:
        from kp.study.explaining_knobs import explain_knobs

        return explain_knobs(what, as_json=json)
    from kp.study.explaining_facts import explain_fact

    return explain_fact(what, study, results, as_json=json)


def add() -> None:
    """Add this command to the application."""
    app.command(name="explain")(_explain)
