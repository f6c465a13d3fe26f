"""What trials have come to: how they stand, studies side by side, and an adapter asked or shared."""

from pathlib import Path
from typing import Annotated

import tyro

from kp.commands.application import File, Overrides, app, study_command

Trial = Annotated[str, tyro.conf.arg(name="trial", metavar="TRIAL")]
Repo = Annotated[str, tyro.conf.arg(name="repo", metavar="REPO")]


def _compare(first: tyro.conf.Positional[Path], second: tyro.conf.Positional[Path], to: Path = Path("compared")) -> int:
    """Set two finished studies side by side.

    Args:
        first: The folder of a study, such as runs/quickstart, or of committed results, such as results/quickstart.
        second: The other one.
        to: Folder for compare.html and compare.md.
    """
    from kp.study.comparing import compare_studies

    return compare_studies(first, second, to)


def _trials(
    file: tyro.conf.Positional[File],
    overrides: tyro.conf.Positional[Overrides] = (),
    results: Path = Path("runs"),
    watch: float | None = None,
    export: Path | None = None,
) -> int:
    """Show the state of a study's trials, while it runs or after; needs no Ray and changes nothing.

    Args:
        file: The study.
        overrides: The config values with which the study was run, such as search.rank=[4,8].
        results: Folder of all studies' results.
        watch: Redraw after this many seconds, until all trials have ended or you press Ctrl-C.
        export: Write what is shown, and more, to a .csv, .parquet, .json or .jsonl file.
    """
    from kp.study.opening import opened
    from kp.study.trials_view import show_trials

    with opened(file, overrides) as config:
        return show_trials(config, results, watch, export)


def _push(
    file: tyro.conf.Positional[File],
    trial: tyro.conf.Positional[Trial],
    repo: tyro.conf.Positional[Repo],
    results: Path = Path("runs"),
    private: bool = False,
    dry_run: bool = False,
) -> int:
    """Upload the adapter of a trial to the Hub, with a model card made of the study's report.

    Args:
        file: The study.
        trial: The beginning of the trial's id, or its label.
        repo: The repository on the Hub, such as me/facts; it is made if it does not exist.
        results: Folder of all studies' results.
        private: Make a new repository private.
        dry_run: Print the files and the card, and upload nothing.
    """
    from kp.config.study import load_study
    from kp.study.pushing import push_adapter

    return push_adapter(load_study(file, []), results, trial, repo, private=private, dry_run=dry_run)


def _chat(
    file: tyro.conf.Positional[File],
    trial: tyro.conf.Positional[Trial],
    results: Path = Path("runs"),
    question: str | None = None,
    shots: int = 0,
    scale: float = 1.0,
) -> int:
    """Ask the base and the adapter of a trial the same questions, side by side.

    Args:
        file: The study.
        trial: The beginning of the trial's id, or its label.
        results: Folder of all studies' results.
        question: Answer this one question and end.
        shots: Worked examples before the question, 0 or 4; adapters are trained without, and measured with 4.
        scale: How much of the adapter's change of the weights is applied, above 0 and at most 1.
    """
    from kp.study.chatting import chat_with
    from kp.study.opening import opened

    with opened(file) as config:
        return chat_with(config, results, trial, question=question, shots=shots, scale=scale)


def add() -> None:
    """Add these commands to the application."""
    study_command("trials", _trials)
    app.command(name="compare")(_compare)
    app.command(name="chat")(_chat)
    app.command(name="push")(_push)
