"""The exceptions that users see, and how they are found inside others.

The command line prints their message without a traceback and exits with 2; everything else is a bug and keeps its traceback. An error
that is raised in another process comes back inside the exceptions of Ray, and a full disk inside those of whatever library was writing.
"""

import errno
import os
import re
from collections.abc import Iterator, Mapping


class UserError(Exception):
    """Bad input: what is wrong with it, and what was expected.

    `field` is the config field or option that is wrong, such as `facts.source` or `--results`, if there is one; `message` names the file
    and the row, if any. The field is set when the error is raised: code that reads a source or a model takes the field's name as an
    argument, so no message has to be parsed to name another field.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class MissingSourceError(UserError):
    """A source of a study that is not available here and now; a dry run, which fetches nothing, prices the study without it."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its type if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def printable(text: str) -> str:
    """The text as a terminal may show it: what a model, a facts file or another process wrote could otherwise command the terminal."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\ufffd" for sign in text)


def last_named(text: str) -> str:
    """The last error named in an error text, which may quote tracebacks of other processes."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    return (named or lines or ["no error text"])[-1]


FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
FORBIDDEN = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))

# What libraries say of a full disk that they do not report as an OSError: Rust's (safetensors, polars), torch's, SQLite's, Ray's.
FULL_TEXTS = (
    "No space left on device",
    "Disk quota exceeded",
    "PytorchStreamWriter failed writing file",
    "basic_ios::clear: iostream error",
    "database or disk is full",
    "local disk's utilization is over capacity",
)


def user_error_in(error: BaseException) -> UserError | None:
    """The error for users inside `error`, however it is wrapped: a UserError, else a full or forbidden disk; None if it is a bug."""
    inside = list(_inside(error))
    # Ray's RayTaskError(UserError) is a UserError too, but with a traceback for a message; the one that was raised is its cause.
    own = next((one for one in inside if isinstance(one, UserError) and not isinstance(getattr(one, "cause", None), BaseException)), None)
    return own or next(filter(None, map(_disk_error, reversed(inside))), None)  # the innermost first: others quote it without its file


def _inside(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it holds, nearest first, each once."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [held for held in _held(one) if isinstance(held, BaseException)]


def _held(error: BaseException) -> Iterator[object]:
    yield error.__cause__
    if not error.__suppress_context__:
        yield error.__context__
    # Those of Ray's tasks and of its Train workers and controllers, and of an ExceptionGroup.
    for name in ("cause", "worker_failures", "controller_failure", "exceptions"):
        held = getattr(error, name, None)
        yield from held.values() if isinstance(held, Mapping) else held if isinstance(held, list | tuple) else (held,)
    yield from error.args  # where an ActorDiedError has what its constructor raised


def _disk_error(error: BaseException) -> UserError | None:
    number = error.errno if isinstance(error, OSError) else None
    where = _place(error)
    if number in FULL or any(text in str(error) for text in FULL_TEXTS):
        return UserError(f"{where}the disk is full; make room and run the same command again, which continues from what is done")
    if number in FORBIDDEN:
        assert number is not None
        return UserError(f"{where}{os.strerror(number)}; give this user access to it, or name another place")
    return None


def _place(error: BaseException) -> str:
    """The file that an error names, with a colon; Ray Data has sentences of its own where an OSError has its file."""
    name = error.filename if isinstance(error, OSError) else None
    return f"{os.fsdecode(name)}: " if isinstance(name, str | bytes) and "\n" not in os.fsdecode(name) else ""
