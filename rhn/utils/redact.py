"""Addresses of databases, and what of them may be shown: in a script, a message, a figure's file."""

import re

# user:password@host, whatever the password holds: up to the last @ before a question mark, else up to the first one
PASSWORD = re.compile(r"(?<=://)([^:/@?\s]*):(?:[^?\s]*|[^@\s]*)@")
OPTION = re.compile(r"(?<=[?&])(?:ssl)?password=[^&\s]*&?")


def without_password(address: str) -> str:
    """The address as anybody may see it. It still connects where ~/.pgpass or PGPASSWORD knows the password.

    >>> without_password("postgresql://me:secret@host:5432/study?password=secret&sslmode=require")
    'postgresql://me@host:5432/study?sslmode=require'
    """
    return OPTION.sub("", PASSWORD.sub(r"\1@", address)).rstrip("?&")
