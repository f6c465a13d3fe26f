"""The command line of `kp`: its commands in their order, and how its words are read."""

import inspect
import itertools
import re

from kp.commands import bench, explain, gate, outcomes, packing, planning, starting, studies, surroundings
from kp.commands.application import app, study_commands

DESCRIPTION = "How many new facts can you pack into a LoRA adapter before it harms the model?"
EXIT_CODES = (
    "Exit codes: 0 done; 1 kp has a bug, or its cluster was lost; 2 bad input, or a place that cannot be read or written; "
    "3 all the rest is done, but a trial failed, which the report records; 130 interrupted (Ctrl-C); 143 ended by SIGTERM. "
    "After each but 0 the same command continues from what is done. Of `kp gate`: 0 pass; 1 fail; 3 not resolved."
)
# In the order in which `kp --help` lists them.
for module in (starting, packing, gate, planning, explain, studies, surroundings, outcomes, bench):
    module.add()

_OVERRIDE = re.compile(r"[A-Za-z_][\w.]*=")


def run(arguments: list[str]) -> int:
    """Run a command line; returns the exit code."""
    code: int = app.cli(args=overrides_together(arguments), prog="kp", description=f"{DESCRIPTION}\n\n{EXIT_CODES}")
    return code


def overrides_together(arguments: list[str]) -> list[str]:
    """The same command line with its study and its overrides in front of the options, between which they may stand."""
    if not arguments or arguments[0] not in study_commands:
        return arguments
    command, words = study_commands[arguments[0]], iter(arguments[1:])
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
