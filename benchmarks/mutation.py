"""Compare two test suites by the share of random source mutants that they detect.

    python -m benchmarks.mutation prepare e17ff01 --suite before=e17ff01
    python -m benchmarks.mutation map before         # one full run; records which tests execute each chosen line
    python -m benchmarks.mutation kill before
    python -m benchmarks.mutation prepare e17ff01 --suite after=HEAD
    python -m benchmarks.mutation map after --known before    # only the test files that differ
    python -m benchmarks.mutation kill after --first before
    python -m benchmarks.mutation report before after

Choose `LINES` source lines of the four packages at random with a fixed seed and change each in one place: an operator, a constant,
a comparison, a condition, a boolean operator or a return value. Both suites run on the same source revision. For each mutant, run
with `-x` the tests that execute the line: at most `MOST_TESTS` of `MOST_FILES` files that need at most `MOST_SECONDS`, one case of
each test function first, functions whose file name is nearest to the source first. `kill --first NAME` begins with the function
that killed the mutant in another suite, and does not repeat a test of a file that both suites share. A mutant is killed when a
test fails that passes without the mutant, or when the tests do not end within `LIMIT` seconds.
"""

import argparse
import ast
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "mutation"
PACKAGES = ("rhn", "gersgorin", "optim_study", "analysis")
LINES, SEED = 60, 20261121
MOST_TESTS, MOST_FILES, MOST_SECONDS, LIMIT = 40, 6, 15.0, 300
TEST_FILES = ("tests", "pyproject.toml", "Makefile")

BINARY = {ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "/"),
          ast.Mod: ("%", "*"), ast.Pow: ("**", "*")}  # fmt: skip
COMPARE = {ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.Eq: ("==", "!="),
           ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is"), ast.In: ("in", "not in"),
           ast.NotIn: ("not in", "in")}  # fmt: skip

# The recorder is a module at the root of the instrumented tree, and the pytest plugin that writes outcomes and processor time.
RECORDER = """
import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
seen, bad = set(), []


def hit(line):
    test = os.environ.get("PYTEST_CURRENT_TEST", "nothing (import)")
    if (line, test) not in seen:
        seen.add((line, test))
        with (HERE / "hits.txt").open("a") as file:
            file.write(f"{line}\\t{test}\\n")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    bad.clear()
    start = sum(os.times()[:4])
    yield
    with (HERE / "outcomes.txt").open("a") as file:
        file.write(f"{item.nodeid}\\t{bad[0] if bad else 'passed'}\\t{sum(os.times()[:4]) - start:.3f}\\n")


def pytest_runtest_logreport(report):
    if report.outcome != "passed":
        bad.append(report.outcome)
"""


class Candidates(ast.NodeVisitor):
    """Collect (line, start, end, new text) of every possible change in one source file, in byte offsets."""

    def __init__(self, text: str):
        self.data = text.encode()
        self.starts = [0]
        for line in self.data.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.found: list[tuple[int, int, int, str]] = []

    def span(self, node) -> tuple[int, int]:
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def replace(self, node, new: str):
        self.found.append((node.lineno, *self.span(node), new))

    def operator(self, left, right, old: str, new: str):
        """Replace the operator between two operands."""
        begin, end = self.span(left)[1], self.span(right)[0]
        match = re.search(rb"\b" + old.replace(" ", r"\s+").encode() + rb"\b" if old[0].isalpha() else re.escape(old).encode(),
                          self.data[begin:end])  # fmt: skip
        if match:
            at = begin + match.start()
            line = self.data.count(b"\n", 0, at) + 1
            self.found.append((line, at, begin + match.end(), new))

    def text(self, node) -> str:
        begin, end = self.span(node)
        return self.data[begin:end].decode()

    def condition(self, node):
        self.replace(node, f"(not ({self.text(node)}))")

    def visit_BinOp(self, node):
        if type(node.op) in BINARY:
            self.operator(node.left, node.right, *BINARY[type(node.op)])
        self.generic_visit(node)

    def visit_Compare(self, node):
        for left, op, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            self.operator(left, right, *COMPARE[type(op)])
        self.generic_visit(node)

    def visit_BoolOp(self, node):
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.operator(left, right, old, new)
        self.generic_visit(node)

    def visit_UnaryOp(self, node):
        if isinstance(node.op, ast.USub | ast.Not):
            self.replace(node, f"({self.text(node.operand)})")
        self.generic_visit(node)

    def visit_Constant(self, node):
        if isinstance(node.value, bool):
            self.replace(node, str(not node.value))
        elif isinstance(node.value, int | float):
            self.replace(node, repr(node.value + 1 if isinstance(node.value, int) else node.value * 2 or 1.0))

    def visit_If(self, node):
        if "TYPE_CHECKING" in self.text(node.test) or "__name__" in self.text(node.test):
            return
        self.condition(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node):
        self.condition(node.test)
        self.generic_visit(node)

    visit_While = visit_IfExp

    def visit_comprehension(self, node):
        for test in node.ifs:
            self.condition(test)
        self.generic_visit(node)

    def visit_Return(self, node):
        if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self.replace(node.value, "None")
        self.generic_visit(node)

    def visit_AnnAssign(self, node):
        if node.value:
            self.visit(node.value)

    def visit_arg(self, node):
        """Leave type annotations as they are."""

    def visit_FunctionDef(self, node):
        for part in (*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults), *node.body):
            self.visit(part)

    def visit_JoinedStr(self, node):
        """Leave messages as they are."""

    visit_Raise = visit_JoinedStr


def choose(tree: Path) -> list[dict]:
    """Return `LINES` mutants: file, line, offsets, old and new text."""
    lines = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((tree / package).rglob("*.py")):
            candidates = Candidates(path.read_text())
            candidates.visit(ast.parse(path.read_text()))
            for line, begin, end, new in candidates.found:
                old = candidates.data[begin:end].decode()
                lines[str(path.relative_to(tree)), line].append({"begin": begin, "end": end, "old": old, "new": new})
    rng = random.Random(SEED)
    return [
        {"file": file, "line": line, **rng.choice(lines[file, line])} for file, line in rng.sample(sorted(lines), LINES)
    ]


def instrument(tree: Path, mutants: list[dict]):
    """Insert a call of the recorder before the statement of each chosen line."""
    by_file = defaultdict(list)
    for number, mutant in enumerate(mutants):
        by_file[mutant["file"]].append((mutant["line"], number))
    for file, chosen in by_file.items():
        path = tree / file
        text = path.read_text().split("\n")
        module = ast.parse(path.read_text())
        elifs = {
            id(node.orelse[0])
            for node in ast.walk(module)
            if isinstance(node, ast.If)
            and len(node.orelse) == 1
            and isinstance(node.orelse[0], ast.If)
            and text[node.orelse[0].lineno - 1].lstrip().startswith("elif")
        }
        inserts = defaultdict(list)
        for line, number in chosen:
            around = [
                n
                for n in ast.walk(module)
                if isinstance(n, ast.stmt) and id(n) not in elifs and first(n) <= line <= n.end_lineno
            ]
            statement = max(around, key=first)
            inserts[first(statement)].append((statement.col_offset, number))
        for at in sorted(inserts, reverse=True):
            column = inserts[at][0][0]
            text[at - 1 : at - 1] = [
                f"{' ' * column}__import__('mutation_recorder').hit({number})" for _, number in inserts[at]
            ]
        path.write_text("\n".join(text))
    (tree / "mutation_recorder.py").write_text(RECORDER)


def first(statement: ast.stmt) -> int:
    """Return the first line of a statement, decorators included."""
    return min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])


def extract(revision: str, tree: Path, *paths: str):
    archive = subprocess.run(["git", "archive", revision, *paths], cwd=ROOT, check=True, capture_output=True).stdout
    tree.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-x", "-C", tree], input=archive, check=True)


def prepare(source: str, suite: str):
    """Make two copies of the source with the tests of a suite: NAME (clean) and NAME-map (with the recorder)."""
    name, revision = suite.split("=")
    shared = WORK / "shared"
    WORK.mkdir(parents=True, exist_ok=True)
    if not shared.exists() and (ROOT.parent / "shared").exists():
        shared.symlink_to(ROOT.parent / "shared")
    for tree in (WORK / name, WORK / f"{name}-map"):
        shutil.rmtree(tree, ignore_errors=True)
        extract(source, tree)
        shutil.rmtree(tree / "tests")
        extract(revision, tree, *TEST_FILES)
    mutants = choose(WORK / name)
    (WORK / "mutants.json").write_text(json.dumps(mutants, indent=1))
    instrument(WORK / f"{name}-map", mutants)
    print(f"{len(mutants)} mutants in {len({m['file'] for m in mutants})} files")


def environment(tree: Path) -> dict:
    return {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "CI": "1", "PYTHONDONTWRITEBYTECODE": "1",
            "XDG_CACHE_HOME": str(WORK / "cache")}  # fmt: skip


def pytest(tree: Path, *arguments: str, limit: float | None = None) -> tuple[int, str]:
    """Run pytest in a process group of its own; -1 when the limit is passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    with subprocess.Popen(command, cwd=tree, env=environment(tree), start_new_session=True, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=limit)
            return process.returncode, output
        except subprocess.TimeoutExpired:
            return -1, ""
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def record(name: str, known: str | None, folders: list[str]):
    """Run the suite once on the instrumented source; test files equal to those of `known` keep its records."""
    tree = WORK / f"{name}-map"
    files = ["tests", *PACKAGES]
    if known:
        other = WORK / f"{known}-map"
        same = lambda p: (other / p).exists() and (other / p).read_bytes() == (tree / p).read_bytes()  # noqa: E731
        tests = [str(path.relative_to(tree)) for path in sorted((tree / "tests").rglob("test_*.py"))]
        kept = {p for p in tests if same(p)} | {
            str(p.relative_to(tree)) for d in PACKAGES for p in (tree / d).rglob("*.py")
        }
        for part, column in (("hits.txt", 1), ("outcomes.txt", 0)):
            rows = (other / part).read_text().splitlines(keepends=True)
            (tree / part).write_text("".join(r for r in rows if r.split("\t")[column].partition("::")[0] in kept))
        files = [p for p in tests if p not in kept]
    chosen = re.search(r"-n 2 -q -m '(.*)'", (tree / "Makefile").read_text()).group(1)  # the tests of `make test`
    _, output = pytest(tree, "-p", "mutation_recorder", "-m", chosen, *(folders or files))
    (WORK / f"{name}-map.log").write_text(output)
    print(output[-3000:])


def words(path: str) -> set[str]:
    return {word.removesuffix("s") for word in re.split(r"[/_.]+", path.lower())} - {
        "test",
        "py",
        "rhn",
        "",
        "__init__",
    }


def select(mutant: dict, number: int, hits: list, outcomes: dict) -> tuple[list[str], int]:
    """Return the tests to run for a mutant, nearest first, and how many tests execute its line."""
    mine = [(test, phase) for line, test, phase in hits if line == number]
    executing = {test for test, _ in mine if test in outcomes}
    # A fixture that several tests share is set up once: any test of the file may look at its result.
    shared = {test.partition("::")[0] for test, phase in mine if phase == "setup"}
    chosen = executing | {test for test in outcomes if test.partition("::")[0] in shared}
    if not chosen and mine:  # executed at import only
        chosen = set(outcomes)
    near = words(mutant["file"])
    functions = defaultdict(list)
    for test in sorted(chosen):
        functions[test.partition("[")[0]].append(test)
    rng = random.Random(SEED)
    rank = {}
    for function, tests in functions.items():
        rng.shuffle(tests)
        tests.sort(key=lambda test: test not in executing)
        for place, test in enumerate(tests):
            rank[test] = (place, -len(near & words(function.partition("::")[0])), outcomes[test][1])
    picked, files, seconds = [], set(), 0.0
    for test in sorted(rank, key=rank.get):
        file = test.partition("::")[0]
        if file not in files and len(files) == MOST_FILES:
            continue
        if len(picked) < MOST_TESTS and seconds + outcomes[test][1] <= MOST_SECONDS:
            picked.append(test)
            files.add(file)
            seconds += outcomes[test][1]
    return picked, len(executing)


def failed(output: str, tests: list[str]) -> str:
    """Return the test that failed, or "collection"."""
    lines = re.findall(r"^(?:FAILED|ERROR) (.*)$", output, re.MULTILINE)
    return max((test for test in tests for line in lines if line.startswith(test)), key=len, default="collection")


def killed_by(tree: Path, mutant: dict, tests: list[str]) -> str:
    """Return the test that detects a mutant, "collection" or "limit"; "" when all pass with it."""
    path = tree / mutant["file"]
    clean = path.read_bytes()
    while tests:
        try:
            path.write_bytes(clean[: mutant["begin"]] + mutant["new"].encode() + clean[mutant["end"] :])
            code, output = pytest(tree, "-x", *tests, limit=LIMIT)
        finally:
            path.write_bytes(clean)
        if code == 0:
            return ""
        by = "limit" if code == -1 else failed(output, tests)
        if pytest(tree, *([by] if by in tests else tests), limit=LIMIT)[0] == 0:  # they pass without the mutant
            return by
        tests = [test for test in tests if test != by] if by in tests else []
    return ""


def kill(name: str, first: str | None):
    """Run each mutant against its tests and write NAME.json; a later call runs only mutants that further tests execute."""
    tree = WORK / name
    hints = json.loads((WORK / f"{first}.json").read_text()) if first else []
    mutants = json.loads((WORK / "mutants.json").read_text())
    rows = [row.split("\t") for row in (WORK / f"{name}-map" / "outcomes.txt").read_text().splitlines()]
    outcomes = {test: (outcome, float(seconds)) for test, outcome, seconds in rows if outcome == "passed"}
    hits = []
    for row in (WORK / f"{name}-map" / "hits.txt").read_text().splitlines():
        line, _, test = row.partition("\t")
        test, _, phase = test.rpartition(" ")
        hits.append((int(line), test, phase.strip("()")))
    file = WORK / f"{name}.json"
    results = json.loads(file.read_text()) if file.exists() else [{} for _ in mutants]
    for number, mutant in enumerate(mutants):
        tests, executing = select(mutant, number, hits, outcomes)
        if results[number].get("killed") or results[number].get("executing") == executing:
            continue
        by, hint = "", hints[number].get("killed", "") if hints else ""
        file_of_hint = hint.partition("::")[0]
        if hint in outcomes and (tree / file_of_hint).read_bytes() == (WORK / first / file_of_hint).read_bytes():
            by = hint  # the same test on the same source
        elif "::" in hint:
            by = killed_by(tree, mutant, [hint.partition("[")[0]])
        by = by or killed_by(tree, mutant, tests)
        results[number] = {**mutant, "executing": executing, "run": len(tests), "killed": by}
        print(f"{number:2} {mutant['file']}:{mutant['line']} {mutant['old'][:40]!r} -> {mutant['new'][:40]!r}: "
              f"{executing} execute, {len(tests)} run, {'killed by ' + by if by else 'SURVIVED'}", flush=True)  # fmt: skip
        file.write_text(json.dumps(results, indent=1))


def report(*names: str):
    for name in names:
        results = json.loads((WORK / f"{name}.json").read_text())
        killed = sum(bool(r["killed"]) for r in results)
        executed = sum(r["run"] > 0 for r in results)
        print(
            f"{name}: killed {killed} of {len(results)} mutants ({killed / len(results):.0%}), {executed} executed by a test"
        )
    if len(names) == 2:
        for a, b in zip(*(json.loads((WORK / f"{name}.json").read_text()) for name in names), strict=True):
            if bool(a["killed"]) != bool(b["killed"]):
                print(
                    f"  {a['file']}:{a['line']} {a['old']!r} -> {a['new']!r}: killed by {a['killed'] or None} | {b['killed'] or None}"
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("prepare")
    sub.add_argument("source", help="git revision of the source")
    sub.add_argument("--suite", required=True, metavar="NAME=REVISION", help="git revision of the tests")
    sub = commands.add_parser("map")
    sub.add_argument("name")
    sub.add_argument("--known", help="a suite whose records hold for test files of equal text")
    sub.add_argument("folders", nargs="*", help="run only these")
    sub = commands.add_parser("kill")
    sub.add_argument("name")
    sub.add_argument("--first", help="a suite whose results say which test function to try first")
    commands.add_parser("report").add_argument("names", nargs="+")
    args = parser.parse_args()
    if args.command == "prepare":
        prepare(args.source, args.suite)
    elif args.command == "map":
        record(args.name, args.known, args.folders)
    elif args.command == "kill":
        kill(args.name, args.first)
    else:
        report(*args.names)


if __name__ == "__main__":
    main()
