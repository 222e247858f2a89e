"""Words that depend on a number, and words of an error."""


def counted(count: int, what: str, several: str | None = None) -> str:
    """So many of something; `several` where its plural is not made with an s.

    >>> counted(1, "step"), counted(0, "step"), counted(2, "batch", "batches")
    ('1 step', '0 steps', '2 batches')
    """
    return f"{count} {what if count == 1 else several or f'{what}s'}"


def first_line(error: BaseException) -> str:
    """What an error says, without its number and without the frames of C++ that torch adds; its kind where it says nothing.

    >>> first_line(RuntimeError("too large\\nException raised from malloc")), first_line(ValueError())
    ('too large', 'ValueError')
    """
    return next(iter(str(getattr(error, "strerror", None) or error).splitlines()), type(error).__name__)
