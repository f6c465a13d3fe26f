"""The stages of a study, the study that runs them all, and inspections of its basis.

A stage's command runs that stage and whatever it needs that is not done.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from kp.commands.application import File, Overrides, study_command
from kp.errors import UserError

if TYPE_CHECKING:
    from kp.config.study import StudyConfig
    from kp.study.profile import Profile

Task = Callable[["StudyConfig", Path, str], int]


def _run_until(config: "StudyConfig", results: Path, command: str, profile: "Profile | None" = None) -> int:
    from kp.study.run import run_study
    from kp.study.stage import Command

    return run_study(config, results, Command(command), profile)


def _inspect(config: "StudyConfig", results: Path, what: str) -> int:
    from kp.study.inspection import Inspection, inspect_study

    return inspect_study(config, results, Inspection(what))


def _score_base(config: "StudyConfig", results: Path, _: str) -> int:
    from kp.study.base_benchmarks import score_base

    return score_base(config, results)


def _run(task: Task, what: str, file: Path, overrides: tuple[str, ...], results: Path, dry_run: bool, cluster: str | None = None) -> int:
    from kp.cluster.stated import FIELD, stated_cluster
    from kp.study.opening import opened
    from kp.study.run import describe_study
    from kp.study.stage import Command

    stated = stated_cluster(cluster) if cluster is not None else None
    if stated is not None and not dry_run:
        raise UserError("prices a study for a cluster that is not there: give it together with --dry-run", field=FIELD)
    with opened(file, overrides) as config:
        if not dry_run:
            return task(config, results, what)
        return describe_study(config, results, Command(what) if what in list(Command) else Command.CATEGORISE, stated)


def _describe(config: "StudyConfig", results: Path, _: str) -> int:
    from kp.study.facts_description import describe_study_facts

    return describe_study_facts(config, results)


def _facts(
    file: tyro.conf.Positional[File],
    overrides: tyro.conf.Positional[Overrides] = (),
    results: Path = Path("runs"),
    dry_run: bool = False,
    describe: bool = False,
) -> int:
    """Read, check and choose the facts to measure.

    Args:
        file: The study.
        overrides: Config values that replace the file's, such as facts.count=400.
        results: Folder of all studies' results; on a cluster one that every node shares, or a bucket such as s3://bucket/kp.
        dry_run: Print the plan and stop.
        describe: Write tables and pictures of the chosen facts: relations, popularity, aliases, lengths, what was rejected.
    """
    return _run(_describe if describe else _run_until, "facts", file, overrides, results, dry_run)


def _command(name: str, what: str, help_text: str, task: Task = _run_until) -> None:
    def command(
        file: tyro.conf.Positional[File],
        overrides: tyro.conf.Positional[Overrides] = (),
        results: Path = Path("runs"),
        dry_run: bool = False,
    ) -> int:
        return _run(task, what, file, overrides, results, dry_run)

    command.__doc__ = f"""{help_text}

    Args:
        file: The study.
        overrides: Config values that replace the file's, such as search.rank=[4,8].
        results: Folder of all studies' results; on a cluster one that every node shares, or a bucket such as s3://bucket/kp.
        dry_run: Print the plan and stop.
    """
    study_command(name, command)


def _study(
    file: tyro.conf.Positional[File],
    overrides: tyro.conf.Positional[Overrides] = (),
    results: Path = Path("runs"),
    dry_run: bool = False,
    cluster: str | None = None,
    profile: bool = False,
) -> int:
    """Run a whole study: facts, categorise, search, evaluate, report.

    Args:
        file: The study.
        overrides: Config values that replace the file's, such as search.rank=[4,8].
        results: Folder of all studies' results; on a cluster one that every node shares, or a bucket such as s3://bucket/kp.
        dry_run: Print the plan and stop.
        cluster: With --dry-run: also what the whole study takes on a cluster that is not there, such as 64xH100, or 8x8xH100 for nodes.
        profile: Print at the end where the wall time went, and keep it as profile.json in the study's folder.
    """
    began = time.time()  # before the imports, which take seconds
    if profile and dry_run:
        raise UserError("a dry run has no time to tell of; leave out one of the two", field="--profile")
    from kp.study.profile import Profile

    recorded = Profile(began) if profile else None
    return _run(partial(_run_until, profile=recorded), "report", file, overrides, results, dry_run, cluster)


def _report(
    file: tyro.conf.Positional[File],
    overrides: tyro.conf.Positional[Overrides] = (),
    results: Path = Path("runs"),
    dry_run: bool = False,
    tables: Path | None = None,
    to: Path | None = None,
) -> int:
    """Write the report.

    Args:
        file: The study.
        overrides: Config values that replace the file's, such as report.margin=0.05.
        results: Folder of all studies' results; on a cluster one that every node shares, or a bucket such as s3://bucket/kp.
        dry_run: Print the plan and stop.
        tables: Make the report again from the folder of an earlier one, such as results/quickstart, which needs nothing else.
        to: Folder to write that report into; it is made, and must be empty.
    """
    if tables is None:
        if to is not None:
            raise UserError("only with --tables: the report of a study is written into its folder", field="--to")
        return _run(_run_until, "report", file, overrides, results, dry_run)
    from kp.study.remaking import remake_report

    if to is None:
        raise UserError("--tables needs a folder to write the report into", field="--to")
    return remake_report(file, list(overrides), tables, to)


def add() -> None:
    """Add these commands to the application."""
    study_command("study", _study)
    study_command("facts", _facts)
    _command("categorise", "categorise", "Ask the base model every fact and categorise what it knows.")
    _command("search", "search", "Train the trials of the grid.")
    _command("evaluate", "evaluate", "Measure the base model and every adapter.")
    study_command("report", _report)
    _command(
        "audit",
        "audit",
        "Inspect the base model's categories: where matchers disagree, what each takes for another fact's answer, doubtful aliases, "
        "refusals, and the HighlyKnown facts that a constant answer would get (the majority baseline).",
        _inspect,
    )
    _command("noise", "noise", "Compare the base model with itself: what would count as shifts although nothing was trained.", _inspect)
    _command("benchmarks", "benchmarks", "Score the base model on the study's benchmarks; nothing is trained.", _score_base)
