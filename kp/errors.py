"""The exceptions that users see.

The command line prints their message without a traceback and exits with 2; everything else is a bug and keeps its traceback.
"""


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
