"""The expected errors of this toolkit: each message holds what was wrong, what was expected and
what to do.

The commands turn any `RhnError` into one sentence on stderr and exit code 2; anything else is a bug
and keeps its traceback.
"""


class RhnError(Exception):
    """Base of every error raised on purpose."""


class InvalidInputError(RhnError, ValueError):
    """A value from outside is unusable: a size, a shape, a name, a matrix with NaN."""


class UsersCodeError(InvalidInputError):
    """Code of the user's own fails: a cell, a module, a factory of theirs."""


class NotFiniteError(InvalidInputError):
    """States or derivatives are NaN or infinite."""


class DataError(RhnError):
    """A data set is missing, empty, damaged or not what its name says."""


class DamagedError(DataError):
    """A file can be read, but its content was changed or cut."""


class CheckpointError(RhnError):
    """A checkpoint is missing, damaged, or says something about itself that is not true."""


class OutputError(RhnError):
    """A result cannot be written: missing folder, no permission, full disk."""


class DivergedError(RhnError):
    """A training's loss is no longer finite."""


class NotConvergedError(RhnError):
    """An iteration did not settle in the steps that it was given; `found` is what did."""

    def __init__(self, message: str, found=None) -> None:
        super().__init__(message)
        self.found = found


USERS_FAULT = (Exception, SystemExit)
"""What code of a user's own may raise: a `sys.exit` in it must not end a command as if all were
well.
"""
