"""A command line from a dataclass, using only the standard library.

The `kp` command builds its command line from the same dataclass with tyro; this module provides the same flags, defaults and help texts
without it.
"""

import argparse
import dataclasses
import inspect
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

from kp.config.docstrings import field_docstrings

Options = TypeVar("Options")


def parse_options(options: type[Options], program: str, arguments: Sequence[str] | None = None) -> Options:
    """An instance of the dataclass `options` from the command line, with a flag for each field; fields are int, float, str, Path, StrEnum,
    or one of them or None."""
    parser = argparse.ArgumentParser(
        prog=program, description=inspect.getdoc(options), formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    hints, helps = get_type_hints(options), field_docstrings(options)
    for field in dataclasses.fields(options):  # type: ignore[arg-type]
        default = field.default_factory() if callable(field.default_factory) else field.default
        kind = _plain_type(hints[field.name])
        choices: dict[str, Any] = {"choices": list(kind)} if issubclass(kind, StrEnum) else {}
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            type=kind,
            default=default,
            help=helps[field.name].replace("%", "%%"),
            metavar=None if choices else kind.__name__.upper(),
            **choices,
        )
    return options(**vars(parser.parse_args(arguments)))


def _plain_type(hint: Any) -> type[int | float | str | Path | StrEnum]:
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] if isinstance(hint, UnionType) else [hint]
    (kind,) = kinds
    assert isinstance(kind, type)
    return kind
