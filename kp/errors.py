"""The one exception that a user is meant to see.

The command line prints its message without a traceback and exits with 2; everything else is a bug and keeps its traceback.
"""


class UserError(Exception):
    """Bad input: the message names the config field, the file, or the row, and says what was expected."""
