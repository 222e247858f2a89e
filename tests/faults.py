"""Put single faults into a package, one at a time, and count those that its tests catch.

    python -m tests.faults trainability 24 3735928559

The faults are drawn by the seed from the committed code, in a copy. A map of which test runs which
line (pytest-cov, one run of the package's tests and examples, of the table of refusals and of the
recorded numbers) tells which tests can catch a fault; tests that fail without one are left out. A
fault changes one place of a function that computes: an operator, a constant, a sign, a function
such as min or mean; or it removes an operand of `and` and `or`, or the condition of a
comprehension. A run of the tests that does not end counts as caught. Faults that change no result
stand in `equivalent_faults.txt` with the reason, and are counted apart.
"""

import ast
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import coverage

OPERATORS = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.MatMult: "*",
    ast.FloorDiv: "/",
}
COMPARISONS = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
NAMES = {
    "min": "max",
    "max": "min",
    "amin": "amax",
    "amax": "amin",
    "argmin": "argmax",
    "argmax": "argmin",
    "sum": "mean",
    "mean": "sum",
    "all": "any",
    "any": "all",
    "exp": "log",
    "sin": "cos",
}
TEXT = {"str", "list[str]", "list[list[list[str]]]", "Iterator[str]", "str | None"}
DRAWS = ("draw", "plot", "panel", "figure", "label", "title", "legend", "table")
QUICK = "not slow and not chaos and not docs"
REFUSALS, NUMBERS = "tests/refusals/test_refusal_tables.py", "tests/numbers"  # of all packages
NOT_FOUND = "ERROR: not found:"  # pytest prints it for a test of a name that no test has
NO_TESTS = 5  # what pytest returns then
LEAST_SECONDS = 120  # before a run of tests counts as one that does not end
EQUIVALENT = Path(__file__).with_name("equivalent_faults.txt")


class Fault(NamedTuple):
    """One place of a function with other text."""

    path: str
    function: str
    lines: range
    """Of the function's body."""
    line: int
    before: str
    after: str
    source: str
    """The whole file with the fault."""

    @property
    def name(self) -> str:
        return f"{self.path} {self.function}: {self.before} -> {self.after}"


def computes(function: ast.FunctionDef) -> bool:
    """Return whether a function gives no text and draws nothing."""
    gives_text = function.returns is not None and ast.unparse(function.returns) in TEXT
    arguments = (*function.args.args, *function.args.kwonlyargs)
    kinds = [ast.unparse(a.annotation) for a in arguments if a.annotation]
    has_axes = any("Axes" in kind or "Figure" in kind for kind in kinds)
    draws = has_axes or any(word in function.name for word in DRAWS)
    return not gives_text and not draws


def computing_nodes(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """Yield the nodes of a function's body but those of refusals and texts."""
    waiting: list[ast.AST] = [*function.body]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.FunctionDef):
            continue
        yield node
        waiting.extend(ast.iter_child_nodes(node))


def other_texts(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Yield the places of a node that a fault can change, and their new text."""
    match node:
        case ast.BinOp(left, op, right) if type(op) in OPERATORS:
            of_text = any(isinstance(getattr(side, "value", 0), str) for side in (left, right))
            if not of_text:
                yield node, f"{_text(left)} {OPERATORS[type(op)]} {_text(right)}"
        case ast.Compare(left, [op], [right]) if type(op) in COMPARISONS:
            yield node, f"{ast.unparse(left)} {COMPARISONS[type(op)]} {ast.unparse(right)}"
        case ast.BoolOp(op, values):
            other = " and " if isinstance(op, ast.Or) else " or "
            yield node, f"({other.join(map(_text, values))})"
            same = " or " if isinstance(op, ast.Or) else " and "
            for removed in values:
                kept = [_text(value) for value in values if value is not removed]
                yield node, f"({same.join(kept)})"
        case ast.comprehension(ifs=[_, *_]):
            for condition in node.ifs:
                yield condition, "True"
        case ast.Constant(value) if type(value) in (int, float):
            yield node, repr(value + 1)
        case ast.UnaryOp(ast.USub(), operand) if not isinstance(operand, ast.Constant):
            yield node, _text(operand)
        case ast.Call(ast.Name(name) as function) if name in NAMES:
            yield function, NAMES[name]
        case ast.Call(ast.Attribute(of, name) as function) if name in NAMES:
            yield function, f"{_text(of)}.{NAMES[name]}"


def _text(node: ast.AST) -> str:
    """Return a node as text that can stand in a larger expression."""
    simple = isinstance(node, ast.Name | ast.Constant | ast.Attribute | ast.Call | ast.Subscript)
    return ast.unparse(node) if simple else f"({ast.unparse(node)})"


def faults_of(source: str, path: str) -> Iterator[Fault]:
    """Yield all faults of a file."""
    data = source.encode()
    starts = [0]
    for row in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(row))
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]
    for function in filter(computes, functions):
        lines = range(function.body[0].lineno, function.end_lineno + 1)
        for node in computing_nodes(function):
            for place, text in other_texts(node):
                begin = starts[place.lineno - 1] + place.col_offset
                end = starts[place.end_lineno - 1] + place.end_col_offset
                changed = (data[:begin] + text.encode() + data[end:]).decode()
                before = " ".join(data[begin:end].decode().split())
                yield Fault(path, function.name, lines, place.lineno, before, text, changed)


def drawn_faults(root: Path, package: str, count: int, seed: int) -> Iterator[Fault]:
    """Draw faults of a package, longer files more often."""
    files = [
        path.relative_to(root)
        for path in sorted((root / package).rglob("*.py"))
        if "cli" not in path.parts and path.stem not in ("cli", "__init__", "__main__")
    ]
    sources = {path: (root / path).read_text() for path in files}
    found = {path: list(faults_of(source, str(path))) for path, source in sources.items()}
    able = [path for path in files if found[path]]
    weights = [sources[path].count("\n") for path in able]
    draw = random.Random(seed)
    for _ in range(count):
        yield draw.choice(found[draw.choices(able, weights)[0]])


def run_pytest(root: Path, *words: str, seconds: float | None = None) -> tuple[int, str]:
    """Run pytest in a copy of the project. Return its code and what it printed."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", QUICK, "-p", "no:cacheprovider", *words]
    how = {"capture_output": True, "text": True, "check": False}
    done = subprocess.run(command, cwd=root, timeout=seconds, **how)
    return done.returncode, done.stdout + done.stderr


def tests_by_line(root: Path, package: str) -> dict[str, dict[int, set[str]]]:
    """Return the tests that run each line of each file, but those that fail."""
    mapped = f"--cov={package}", "--cov-context=test", "--cov-report="
    places = package, f"tests/{package}", REFUSALS, NUMBERS
    _, printed = run_pytest(root, *places, *mapped)
    bad = [row.partition(" ") for row in printed.splitlines()]
    failing = [f"{named} - " for word, _, named in bad if word in ("FAILED", "ERROR")]
    data = coverage.CoverageData(str(root / ".coverage"))
    data.read()
    tests: dict[str, dict[int, set[str]]] = {}
    for file in data.measured_files():
        contexts = data.contexts_by_lineno(file)
        tests[str(Path(file).relative_to(root))] = {
            line: {name for name in map(_name_of_test, names) if name and not _is_in(name, failing)}
            for line, names in contexts.items()
        }
    return tests


def _name_of_test(context: str) -> str:
    """Return the name in "NAME|run"; the name may have a "|" itself."""
    return context.rpartition("|")[0]


def _is_in(name: str, rows: list[str]) -> bool:
    """Return whether a row "NAME - MESSAGE" is about a test."""
    return any(row.startswith(f"{name} - ") for row in rows)


def is_caught(root: Path, fault: Fault, tests: list[str], seconds: float) -> bool:
    """Return whether one of the tests fails with the fault."""
    path = root / fault.path
    source = path.read_text()
    path.write_text(fault.source)
    chosen = root / "chosen_tests.txt"
    chosen.write_text("\n".join(tests))
    try:
        code, printed = run_pytest(root, "-x", f"@{chosen}", seconds=seconds)
        if code == NO_TESTS or NOT_FOUND in printed:
            raise RuntimeError(printed)
        return code != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        path.write_text(source)


def main(package: str, count: str, seed: str) -> int:
    """Print each fault, and how many were caught."""
    equivalent = {row.partition(" | ")[0] for row in EQUIVALENT.read_text().splitlines()}
    counts = {"caught": 0, "equivalent": 0, "SURVIVED": 0}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        root = Path(folder).resolve() / "copy"
        subprocess.run(["git", "clone", "-q", ".", str(root)], check=True)
        begun = time.monotonic()
        tests = tests_by_line(root, package)
        limit = max(LEAST_SECONDS, 4 * (time.monotonic() - begun))
        sizes: dict[str, int] = defaultdict(int)
        for lines in tests.values():
            for names in lines.values():
                for name in names:
                    sizes[name] += 1
        for fault in drawn_faults(root, package, int(count), int(seed)):
            of_file = tests.get(fault.path, {})
            able = set().union(*(of_file.get(line, set()) for line in fault.lines))
            if not able:  # a function that runs when its file is imported
                able = set().union(*of_file.values())
            if fault.name in equivalent:
                word = "equivalent"
            elif able and is_caught(root, fault, sorted(able, key=sizes.__getitem__), limit):
                word = "caught"
            else:
                word = "SURVIVED"
            counts[word] += 1
            print(f"{word:10} {fault.path}:{fault.line} {fault.name.partition(' ')[2]}", flush=True)
    print(", ".join(f"{number} {word}" for word, number in counts.items()))
    return 1 if counts["SURVIVED"] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
