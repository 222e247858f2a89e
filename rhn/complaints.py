"""One sentence of our own for each box that tyro draws where it cannot read the words of a command.

A box has a frame (Unicode or ASCII), a title, the complaint, what it may have meant, and where to find help.
"""

import re

KINDS = {"INT": "a whole number", "FLOAT": "a number", "PATH": "a path"}


def one_sentence(box: str) -> str:
    """What a box complains of."""
    said = " ".join(" ".join(_lines(box)).split())
    said = re.sub(r"^[A-Z][a-z]+ [a-z]+ (?=[A-Z]|invalid)", "", said)  # an ASCII frame's title
    said = re.sub(r"^Error parsing __\S+: ", "", said)  # a dataclass's own check: it names the field
    for read in (_number, _one_of_kinds, _choice, _missing, _unrecognized):
        if sentence := read(said, box):
            return sentence
    return re.sub(r"^Error parsing (--[\w-]+): ", r"\1: ", said) or "the options could not be read"


def help_command(box: str, command: str) -> str:
    """The command whose --help a box points to, where it says more than that of `command`."""
    named = re.findall(r"(?:run:?|see)\s+((?:[\w-]+ )+)--help", " ".join(_unframed(box)))
    return max((name.strip() for name in [command, *named[-1:]]), key=len)


def _unframed(box: str) -> list[str]:
    """The lines of a box without its frame, which is blank in ASCII."""
    return [re.sub(r"^(?:[│|+╭╰] ?|  )|\s*[│|+]?$", "", line) for line in box.splitlines()]


def _lines(box: str) -> list[str]:
    """The complaint itself, line by line, as it is indented."""
    ends, kept = ("For full help", "Argument helptext", "Arguments are applied", "Perhaps you meant"), []
    for line in _unframed(box):
        if line.strip().startswith(ends):
            break
        if not re.search(r"[─-]{4,}", line):  # titles and rules
            kept.append(line)
    return kept


def _number(said: str, box: str) -> str | None:
    found = re.match(r"Error parsing (--[\w-]+): (invalid literal for int|could not convert).*: '(.*)'", said)
    return found and f"{found[1]} expects {KINDS['INT' if 'int' in found[2] else 'FLOAT']}, got {found[3]!r}"


def _one_of_kinds(said: str, box: str) -> str | None:
    """An option that may be of several kinds, as in {None}|FLOAT|{auto}."""
    found = re.match(r"Error parsing (--[\w-]+): no type matching (\S+) could .*?\['(.*?)'\]", said)
    if not found:
        return None
    kinds = [KINDS.get(kind) or kind.strip("{}") for kind in found[2].split("|") if kind != "{None}"]
    return f"{found[1]} expects {' or '.join(kinds)}, got {found[3]!r}"


def _choice(said: str, box: str) -> str | None:
    found = re.match(r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*?),?\)", said)
    if not found:
        return None
    what = f"{found[2]} is {found[1]!r}" if found[2].startswith("-") else f"there is no {found[1]!r} here"
    return f"{what}, expected one of {found[3].replace(chr(39), '')}"


def _missing(said: str, box: str) -> str | None:
    found = re.match(r"Missing from (.+?):", said)
    names = [line.strip() for line in _lines(box) if re.match(r" {4}\S", line)]
    return found and f"{found[1]} needs {' and '.join(names)}"


def _unrecognized(said: str, box: str) -> str | None:
    """Unknown options, with the likeliest one that was meant; or whose option it is, where that is another command's."""
    if not re.match(r"Unrecognized( or misplaced)? options:", said):
        return None
    said = re.sub(r" or misplaced|\(applied to .*?\)", "", said).strip()
    said = said.replace(" Available subcommands:", "; expected one of")
    meant = re.search(r"Perhaps you meant:?\s+(--[\w-]+)(.*)", " ".join(_unframed(box)))
    if not meant:
        return said
    if meant[1] not in re.split("[, ]+", said):
        return f"{said}; perhaps you meant {meant[1]}"
    homes = re.findall(r"\bin ((?:[\w-]+ )+)--help", meant[2])
    return f"{meant[1]} is no option here, but of {' and '.join(home.strip() for home in homes)}"
