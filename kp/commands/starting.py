"""The first commands of somebody who has just installed kp: a study that runs as it is, and one to fill in."""

from pathlib import Path
from typing import Annotated

import tyro

from kp.commands.application import app

Folder = Annotated[Path, tyro.conf.arg(name="folder", metavar="DIR")]


def _demo(results: Path = Path("runs"), dry_run: bool = False) -> int:
    """Run the study `quickstart` on the model and the facts that need no network: minutes on two cores.

    Args:
        results: Folder of all studies' results.
        dry_run: Print the plan and stop.
    """
    from kp.config.study_files import shipped_studies
    from kp.study.opening import opened
    from kp.study.run import describe_study, run_study
    from kp.study.stage import Command

    with opened(shipped_studies()["quickstart"]) as config:
        return describe_study(config, results) if dry_run else run_study(config, results, Command.REPORT)


def _init(folder: tyro.conf.Positional[Folder], model: str | None = None, facts: Path | None = None) -> int:
    """Write a study to start from, with comments, and a table of facts to replace by your own.

    Args:
        folder: A folder that is empty or does not exist yet.
        model: The embedded model's name, a local folder, or a Hub id; by default the embedded model.
        facts: A table with the columns question and answer that the study reads instead.
    """
    from kp.study.starter import write_starter

    return write_starter(folder, model, facts)


def add() -> None:
    """Add these commands to the application."""
    app.command(name="demo")(_demo)
    app.command(name="init")(_init)
