"""The commands of `kp`: five stages, the study that runs them all, inspections of its basis and its state, and benchmarks.

A stage's command runs that stage and whatever it needs that is not done.
"""

import inspect
import itertools
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from kp.bench.options import BenchmarksOptions, CategoriseOptions, DumpOptions, EvaluateOptions, TrainOptions
from kp.errors import UserError

if TYPE_CHECKING:
    from kp.config.study import StudyConfig
    from kp.study.profile import Profile

File = Annotated[Path, tyro.conf.arg(name="file", metavar="STUDY.toml")]
Overrides = Annotated[tuple[str, ...], tyro.conf.arg(name="overrides", metavar="[section.key=value ...]")]

DESCRIPTION = "How many new facts can you pack into a LoRA adapter before it harms the model?"
EXIT_CODES = (
    "Exit codes: 0 done; 1 kp has a bug, or its cluster was lost; 2 bad input, or a place that cannot be read or written; "
    "3 all the rest is done, but a trial failed, which the report records; 130 interrupted (Ctrl-C); 143 ended by SIGTERM. "
    "After each but 0 the same command continues from what is done."
)

app = tyro.extras.SubcommandApp()
_study_commands: dict[str, Callable[..., int]] = {}  # those that take a study and overrides, by name
_OVERRIDE = re.compile(r"[A-Za-z_][\w.]*=")


def _study_command(name: str, command: Callable[..., int]) -> None:
    _study_commands[name] = command
    app.command(name=name)(command)


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
    _study_command(name, command)


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


_study_command("study", _study)
_study_command("facts", _facts)
_command("categorise", "categorise", "Ask the base model every fact and categorise what it knows.")
_command("search", "search", "Train the trials of the grid.")
_command("evaluate", "evaluate", "Measure the base model and every adapter.")


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


_study_command("report", _report)


@app.command(name="compare")
def _compare(first: tyro.conf.Positional[Path], second: tyro.conf.Positional[Path], to: Path = Path("compared")) -> int:
    """Set two finished studies side by side.

    Args:
        first: The folder of a study, such as runs/quickstart, or of committed results, such as results/quickstart.
        second: The other one.
        to: Folder for compare.html and compare.md.
    """
    from kp.study.comparing import compare_studies

    return compare_studies(first, second, to)


_command(
    "audit",
    "audit",
    "Inspect the base model's categories: where matchers disagree, what each takes for another fact's answer, doubtful aliases, "
    "refusals, and the HighlyKnown facts that a constant answer would get (the majority baseline).",
    _inspect,
)
_command("noise", "noise", "Compare the base model with itself: what would count as shifts although nothing was trained.", _inspect)
_command("benchmarks", "benchmarks", "Score the base model on the study's benchmarks; nothing is trained.", _score_base)


def _doctor(file: tyro.conf.Positional[File], overrides: tyro.conf.Positional[Overrides] = (), results: Path = Path("runs")) -> int:
    """Look at every node of the cluster before a study runs there: packages, shared results folder, disk, clocks. Takes seconds.

    Args:
        file: The study.
        overrides: Config values that replace the file's, such as resources.workers_per_trial=2.
        results: Folder of all studies' results; on a cluster one that every node shares, or a bucket such as s3://bucket/kp.
    """
    from kp.config.study import load_study
    from kp.study.doctoring import diagnose

    return diagnose(load_study(file, list(overrides)), results)


_study_command("doctor", _doctor)


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


_study_command("trials", _trials)


def _prefetch(
    file: tyro.conf.Positional[File],
    overrides: tyro.conf.Positional[Overrides] = (),
    to: Path = Path("prefetched"),
) -> int:
    """Bring everything that a study takes from the Hub into a folder, for runs without a network.

    Args:
        file: The study.
        overrides: Config values that replace the file's, such as model.name=meta-llama/Llama-3.2-1B-Instruct.
        to: The folder, which may hold what other studies need; run the study with resources.prefetched=FOLDER.
    """
    from kp.config.study import load_study
    from kp.study.prefetching import prefetch_study

    return prefetch_study(load_study(file, list(overrides)), to)


_study_command("prefetch", _prefetch)

Trial = Annotated[str, tyro.conf.arg(name="trial", metavar="TRIAL")]
Repo = Annotated[str, tyro.conf.arg(name="repo", metavar="REPO")]


@app.command(name="push")
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


@app.command(name="chat")
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


bench = tyro.extras.SubcommandApp()
app.command(bench, name="bench", help="Measure speed, compared with a named peer in the same run.")


@bench.command(name="categorise", help=CategoriseOptions.__doc__)
def _bench_categorise(options: tyro.conf.OmitArgPrefixes[tyro.conf.EnumChoicesFromValues[CategoriseOptions]]) -> int:
    from kp.bench.categorise import run_categorise

    return run_categorise(options)


@bench.command(name="dump", help=DumpOptions.__doc__)
def _bench_dump(options: tyro.conf.OmitArgPrefixes[tyro.conf.EnumChoicesFromValues[DumpOptions]]) -> int:
    from kp.bench.dump import run_dump

    return run_dump(options)


@bench.command(name="evaluate", help=EvaluateOptions.__doc__)
def _bench_evaluate(options: tyro.conf.OmitArgPrefixes[tyro.conf.EnumChoicesFromValues[EvaluateOptions]]) -> int:
    from kp.bench.evaluate import run_evaluate

    return run_evaluate(options)


@bench.command(name="train", help=TrainOptions.__doc__)
def _bench_train(options: tyro.conf.OmitArgPrefixes[tyro.conf.EnumChoicesFromValues[TrainOptions]]) -> int:
    from kp.bench.train import run_train

    return run_train(options)


@bench.command(name="benchmarks", help=BenchmarksOptions.__doc__)
def _bench_benchmarks(options: tyro.conf.OmitArgPrefixes[tyro.conf.EnumChoicesFromValues[BenchmarksOptions]]) -> int:
    from kp.bench.scoring import run_scoring

    return run_scoring(options)


def run(arguments: list[str]) -> int:
    """Run a command line; returns the exit code."""
    code: int = app.cli(args=overrides_together(arguments), prog="kp", description=f"{DESCRIPTION}\n\n{EXIT_CODES}")
    return code


def overrides_together(arguments: list[str]) -> list[str]:
    """The same command line with its study and its overrides in front of the options, between which they may stand."""
    if not arguments or arguments[0] not in _study_commands:
        return arguments
    command, words = _study_commands[arguments[0]], iter(arguments[1:])
    taking = {name for name, option in inspect.signature(command).parameters.items() if option.annotation is not bool}
    positional, options = [], []
    for word in words:
        if not word.startswith("-"):
            positional.append(word)
            continue
        options.append(word)
        if word.removeprefix("--").replace("-", "_") in taking:
            options += itertools.islice(words, 1)
    study = next((word for word in positional if not _OVERRIDE.match(word)), None)
    if study is not None:
        positional.remove(study)
        positional.insert(0, study)
    return [arguments[0], *positional, *options]
