"""The `kp` application that each module of commands adds its own to, and what the commands of a study have in common."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

File = Annotated[Path, tyro.conf.arg(name="file", metavar="STUDY.toml")]
Overrides = Annotated[tuple[str, ...], tyro.conf.arg(name="overrides", metavar="[section.key=value ...]")]

app = tyro.extras.SubcommandApp()
study_commands: dict[str, Callable[..., int]] = {}
"""Those that take a study and overrides, by name."""


def study_command(name: str, command: Callable[..., int]) -> None:
    """Add a command whose first words are a study and overrides, which may stand before, after and between its options."""
    study_commands[name] = command
    app.command(name=name)(command)
