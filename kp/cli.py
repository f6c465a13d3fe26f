"""The `kp` command: five stages, the study that runs them all, and nothing of its own.

A stage's command runs that stage and whatever it needs that is not done. Exit codes: 0 done, 1 a trial failed or kp has a bug, 2 bad
input, 130 interrupted.
"""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from kp.errors import UserError

File = Annotated[Path, tyro.conf.arg(name="file", metavar="STUDY.toml")]
Overrides = Annotated[tuple[str, ...], tyro.conf.arg(name="overrides", metavar="[section.key=value ...]")]

app = tyro.extras.SubcommandApp()


def _run(until: str, file: Path, overrides: tuple[str, ...], results: Path, dry_run: bool) -> int:
    from kp.config import load_study
    from kp.study import Stage, describe_study, run_study

    config = load_study(file, list(overrides))
    if dry_run:
        return describe_study(config, results)
    return run_study(config, results, Stage(until))


def _command(name: str, until: str, help_text: str) -> None:
    def command(
        file: tyro.conf.Positional[File],
        overrides: tyro.conf.Positional[Overrides] = (),
        results: Path = Path("runs"),
        dry_run: bool = False,
    ) -> int:
        return _run(until, file, overrides, results, dry_run)

    command.__doc__ = f"""{help_text}

    Args:
        file: The study.
        overrides: Config values that replace the file's, such as search.rank=[4,8].
        results: Folder of all studies' results; on a cluster one that every node shares.
        dry_run: Print the plan and stop.
    """
    app.command(name=name)(command)


_command("study", "report", "Run a whole study: facts, categorise, search, evaluate, report.")
_command("facts", "facts", "Read, check and choose the facts to be measured.")
_command("categorise", "categorise", "Ask the base model every fact and categorise what it knows.")
_command("search", "search", "Train the trials of the grid.")
_command("evaluate", "evaluate", "Measure the base model and every adapter.")
_command("report", "report", "Write the report.")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    try:
        code = app.cli(args=arguments, description="How many new facts can you pack into a LoRA adapter before it harms the model?")
    except UserError as error:
        print(f"kp: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("kp: interrupted; the same command goes on from here", file=sys.stderr)
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
