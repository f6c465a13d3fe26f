"""`python -m kp.bench categorise ...`: the benchmarks on a machine that has torch and transformers and nothing else."""

import sys
from collections.abc import Sequence

from kp.bench.arguments import parse_options
from kp.bench.options import CategoriseOptions
from kp.errors import UserError

PROGRAM = "python -m kp.bench"


def main(arguments: Sequence[str]) -> int:
    """Run one benchmark; returns the exit code, 2 for bad input."""
    if not arguments or arguments[0] != "categorise":
        print(f"usage: {PROGRAM} categorise [--help] [options]", file=sys.stderr)
        return 2
    try:
        options = parse_options(CategoriseOptions, f"{PROGRAM} categorise", arguments[1:])
        from kp.bench.categorise import run_categorise

        return run_categorise(options)
    except UserError as error:
        print(f"kp: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
