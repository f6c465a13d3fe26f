"""The faults of a study's file, as errors for users.

Pydantic finds most of them, the sections' own validators the rest. Both become UserErrors here, each with the full field name and its
fault.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from kp.config.field_types import expectation, nearest_field
from kp.errors import UserError

# Pydantic's names of the faults of a value that has another type than its field; its messages do not say what would be right in a study.
WRONG_TYPE = frozenset(
    ("int_type", "int_from_float", "float_type", "bool_type", "string_type", "tuple_type", "model_type", "enum", "literal_error")
)


class FieldError(ValueError):
    """Raised by a section's validator: `field` of this section, or one below it, is wrong ("rank", "search.rank")."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class InvalidStudyError(UserError):
    """A study file with one or more faults, each with its field; `field` and `message` are those of the first."""

    def __init__(self, path: Path, faults: tuple[UserError, ...]) -> None:
        super().__init__(faults[0].message, field=faults[0].field)
        self.args = (path, faults)  # with which an exception is rebuilt in another process
        self.path = path
        self.faults = faults

    def __str__(self) -> str:
        return "\n".join(f"{self.path}: {fault}" for fault in self.faults)


def faults_of(error: ValidationError, study: type[BaseModel]) -> tuple[UserError, ...]:
    """Every fault found by pydantic, in its order, with the full field name: `search.arms.1.paraphrases`."""
    return tuple(_fault(problem, study) for problem in error.errors())


def _fault(problem: Any, study: type[BaseModel]) -> UserError:
    section = [str(part) for part in problem["loc"]]
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, FieldError):
        return UserError(cause.message, field=".".join([*section, cause.field]))
    dotted = ".".join(part for part in problem["loc"] if isinstance(part, str))  # without places in a list
    if problem["type"] == "extra_forbidden":
        near = nearest_field(study, dotted)
        return UserError("unknown key" + (f"; did you mean {near}?" if near else ""), field=".".join(section))
    got = "" if problem["type"] == "missing" else f" (got {problem['input']!r})"
    hint = expectation(study, dotted) if problem["type"] in WRONG_TYPE else None
    return UserError(f"{problem['msg']}{got}" + (f"; {hint}" if hint else ""), field=".".join(section) or None)
