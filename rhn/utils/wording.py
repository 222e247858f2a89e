"""Texts for messages: plurals, the first line of an error, addresses without passwords."""

import re

# user:password@host, whatever the password holds: up to the last @ before a question mark, else up to the first one
PASSWORD = re.compile(r"(?<=://)([^:/@?\s]*):(?:[^?\s]*|[^@\s]*)@")
OPTION = re.compile(r"(?<=[?&])(?:ssl)?password=[^&\s]*&?")


def counted(count: int, what: str, several: str | None = None) -> str:
    """A number and its unit; `several` is a plural without -s.

    >>> counted(1, "step"), counted(0, "step"), counted(2, "batch", "batches")
    ('1 step', '0 steps', '2 batches')
    """
    return f"{count} {what if count == 1 else several or f'{what}s'}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without errno and the C++ frames of torch; its class if the message is empty.

    >>> first_line(RuntimeError("too large\\nException raised from malloc")), first_line(ValueError())
    ('too large', 'ValueError')
    """
    return next(iter(str(getattr(error, "strerror", None) or error).splitlines()), type(error).__name__)


def without_password(address: str) -> str:
    """An address of a database without its password, for scripts, messages and figures. It still connects with ~/.pgpass or PGPASSWORD.

    >>> without_password("postgresql://me:secret@host:5432/study?password=secret&sslmode=require")
    'postgresql://me@host:5432/study?sslmode=require'
    """
    return OPTION.sub("", PASSWORD.sub(r"\1@", address)).rstrip("?&")
