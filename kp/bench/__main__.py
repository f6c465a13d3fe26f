"""`python -m kp.bench categorise ...`: the benchmarks on a machine that has torch, transformers and the matcher's packages.

`benchmarks`, `dump`, `evaluate` and `train` also need the packages with which kp runs lm-eval, reads dumps, evaluates and trains.
"""

import sys
from collections.abc import Sequence

from kp.bench.arguments import parse_options
from kp.bench.options import BenchmarksOptions, CategoriseOptions, DumpOptions, EvaluateOptions, TrainOptions
from kp.errors import UserError

PROGRAM = "python -m kp.bench"


def _categorise(arguments: Sequence[str]) -> int:
    options = parse_options(CategoriseOptions, f"{PROGRAM} categorise", arguments)
    from kp.bench.categorise import run_categorise

    return run_categorise(options)


def _dump(arguments: Sequence[str]) -> int:
    options = parse_options(DumpOptions, f"{PROGRAM} dump", arguments)
    from kp.bench.dump import run_dump

    return run_dump(options)


def _evaluate(arguments: Sequence[str]) -> int:
    options = parse_options(EvaluateOptions, f"{PROGRAM} evaluate", arguments)
    from kp.bench.evaluate import run_evaluate

    return run_evaluate(options)


def _train(arguments: Sequence[str]) -> int:
    options = parse_options(TrainOptions, f"{PROGRAM} train", arguments)
    from kp.bench.train import run_train

    return run_train(options)


def _benchmarks(arguments: Sequence[str]) -> int:
    options = parse_options(BenchmarksOptions, f"{PROGRAM} benchmarks", arguments)
    from kp.bench.scoring import run_scoring

    return run_scoring(options)


BENCHMARKS = {"benchmarks": _benchmarks, "categorise": _categorise, "dump": _dump, "evaluate": _evaluate, "train": _train}


def main(arguments: Sequence[str]) -> int:
    """Run one benchmark; returns the exit code, 2 for bad input."""
    if not arguments or arguments[0] not in BENCHMARKS:
        print(f"usage: {PROGRAM} {{{','.join(BENCHMARKS)}}} [--help] [options]", file=sys.stderr)
        return 2
    try:
        return BENCHMARKS[arguments[0]](arguments[1:])
    except UserError as error:
        print(f"kp: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
