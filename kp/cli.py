"""The `kp` process: how it starts, what it says when it cannot go on, and the code with which it ends.

Everything that takes time, the imports included, happens inside the block that answers signals; so this module imports almost nothing.
"""

import sys
import traceback

from kp.errors import printable, user_error_in
from kp.interruption import Signals, answering_signals

BAD_INPUT = 2


def main(arguments: list[str] | None = None) -> None:
    """Run the command line (that of the process, if none is given) and exit."""
    with answering_signals() as signals:
        code = signals.code_of(lambda: _run(sys.argv[1:] if arguments is None else arguments, signals))
    sys.exit(code)


def _run(arguments: list[str], signals: Signals) -> int | str | None:
    try:
        from kp.commands.command_line import run

        return run(arguments)
    except SystemExit as end:
        return end.code
    except Exception as error:
        if signals.received is not None:
            return 1  # whatever broke while the process was being ended; the signal determines its code
        refusal = user_error_in(error)
        if refusal is not None:
            print(f"kp: {printable(str(refusal))}", file=sys.stderr)
            return BAD_INPUT
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    main()
