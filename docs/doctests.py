"""For the site: the examples in docstrings, which begin with >>>, are shown as code. A Griffe extension, named in mkdocs.yml."""

import re
import textwrap

import griffe

EXAMPLE = re.compile(r"^([ ]*)>>> .*(?:\n[ ]*\S.*)*", re.MULTILINE)  # up to the next empty line


class Doctests(griffe.Extension):
    def on_object(self, *, obj, **kwargs) -> None:
        if obj.docstring and ">>>" in obj.docstring.value:
            obj.docstring.value = EXAMPLE.sub(_fenced, obj.docstring.value)


def _fenced(match: re.Match) -> str:
    code = f"```pycon\n{textwrap.dedent(match[0])}\n```"
    return "\n" + textwrap.indent(code, match[1])
