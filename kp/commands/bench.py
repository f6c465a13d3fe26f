"""`kp bench`: speed, compared with a named peer in the same run."""

import tyro

from kp.bench.options import BenchmarksOptions, CategoriseOptions, DumpOptions, EvaluateOptions, TrainOptions
from kp.commands.application import app

_bench = tyro.extras.SubcommandApp()


@_bench.command(name="categorise", help=CategoriseOptions.__doc__)
def _bench_categorise(options: tyro.conf.OmitArgPrefixes[tyro.conf.EnumChoicesFromValues[CategoriseOptions]]) -> int:
    from kp.bench.categorise import run_categorise

    return run_categorise(options)


@_bench.command(name="dump", help=DumpOptions.__doc__)
def _bench_dump(options: tyro.conf.OmitArgPrefixes[tyro.conf.EnumChoicesFromValues[DumpOptions]]) -> int:
    from kp.bench.dump import run_dump

    return run_dump(options)


@_bench.command(name="evaluate", help=EvaluateOptions.__doc__)
def _bench_evaluate(options: tyro.conf.OmitArgPrefixes[tyro.conf.EnumChoicesFromValues[EvaluateOptions]]) -> int:
    from kp.bench.evaluate import run_evaluate

    return run_evaluate(options)


@_bench.command(name="train", help=TrainOptions.__doc__)
def _bench_train(options: tyro.conf.OmitArgPrefixes[tyro.conf.EnumChoicesFromValues[TrainOptions]]) -> int:
    from kp.bench.train import run_train

    return run_train(options)


@_bench.command(name="benchmarks", help=BenchmarksOptions.__doc__)
def _bench_benchmarks(options: tyro.conf.OmitArgPrefixes[tyro.conf.EnumChoicesFromValues[BenchmarksOptions]]) -> int:
    from kp.bench.scoring import run_scoring

    return run_scoring(options)


def add() -> None:
    """Add these commands to the application."""
    app.command(_bench, name="bench", help="Measure speed, compared with a named peer in the same run.")
