"""The exceptions that a user is meant to see.

The command line prints their message without a traceback and exits with 2; everything else is a bug and keeps its traceback.
"""


class UserError(Exception):
    """Bad input: the message names the config field, the file, or the row, and says what was expected."""


class MissingSourceError(UserError):
    """A source that a study names cannot be had from here, now; a dry run, which fetches nothing, prices the study without it."""
