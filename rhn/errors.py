"""Errors that the toolkit raises on purpose. Any other exception is a bug."""

from typing import Any


class RhnError(Exception):
    """The base class of all errors that are raised on purpose.

    >>> isinstance(InvalidInputError("hidden_size is 0: expected at least 1"), RhnError)
    True
    """


class InvalidInputError(RhnError, ValueError):
    """An argument cannot be used: a size, a shape, a name, a matrix with NaN."""


class UsersCodeError(InvalidInputError):
    """The user's code fails: a cell, a module or a factory."""


class NotFiniteError(InvalidInputError):
    """States, derivatives or data (`of`) are NaN or infinite; `values` has the numbers of data."""

    def __init__(self, message: str, of: str = "", values: Any = None):
        super().__init__(message)
        self.of, self.values = of, values


class DataError(RhnError):
    """A data set is missing, empty or damaged, or is not the data set that its name suggests."""


class DamagedError(DataError):
    """A file can be read, but its content was changed or truncated."""


class CheckpointError(RhnError):
    """A checkpoint is missing or damaged, or its header does not fit its weights."""


class OutputError(RhnError):
    """A result cannot be written: missing folder, no permission, full disk."""


class DivergedError(RhnError):
    """The loss of a training run is no longer finite."""


USERS_FAULT = (Exception, SystemExit)
"""The exceptions of user code: a `sys.exit` must not end a command as if it had succeeded."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if an error of Python or torch, which is not imported, reports a lack of memory.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("a shape is wrong"))
    (True, False)
    >>> import torch
    >>> is_out_of_memory(torch.OutOfMemoryError("of a GPU"))
    True
    """
    of_device = type(error).__name__ == "OutOfMemoryError"
    of_torch = ("can't allocate memory", "Storage size calculation overflowed")
    said = any(sentence in str(error) for sentence in of_torch)
    return isinstance(error, MemoryError) or of_device or said


def unreadable(path: object, error: BaseException, otherwise: str) -> str:
    """Return the sentence for a file that cannot be read: a lack of memory says nothing about the
    file.

    >>> unreadable("a.npz", MemoryError(), "a.npz is damaged")
    'there is not enough memory for a.npz'
    """
    return f"there is not enough memory for {path}" if is_out_of_memory(error) else otherwise


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without errno and the C++ frames of torch, or
    the name of its class if the message is empty.

    >>> first_line(RuntimeError("too large\\nException raised from malloc")), first_line(KeyError())
    ('too large', 'KeyError')
    """
    lines = str(getattr(error, "strerror", None) or error).splitlines()
    return lines[0] if lines else type(error).__name__
