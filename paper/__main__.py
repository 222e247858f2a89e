"""`make paper`: measure what the paper claims, from stored studies and weights, and write
docs/paper.md, docs/results/paper.csv and the pictures.

Every module of this folder with a function `rows()` is called; `rows` returns values by name, which
claims.toml quotes. Seconds are printed, not stored.
"""

import importlib
import pkgutil
import time
from collections.abc import Mapping

import paper
from paper.claims import sections
from paper.settings_that_train import PICTURE, Orders, page_table, read_orders
from paper.values import ROOT, STORED, Value, read_values, text_of, write_values

PAGE = ROOT / "docs" / "paper.md"
INTRODUCTION = """\
# The paper, row by row

Each figure, table, equation and claim of *Recurrent Highway Networks*
([arXiv 1607.03474](https://arxiv.org/abs/1607.03474)), with the paper's number and ours. `make
paper` writes this page in a checkout, from stored studies and weights. [Results](results.md) has
what goes beyond the paper. Brackets are 95 % intervals, unless the row says otherwise."""
QUESTION = f"""\
## Which settings train?

The table has the AUC of measures of the untrained network, and of settings: the share of pairs (a
trial that trains, a trial that does not) in which the trial that trains has the larger value. A
measure that says nothing has 0.5. What follows from it: [results](results.md#which-settings-train).

| word | meaning |
|---|---|
| first | the 720 trials of [small-study.csv](results/small-study.csv) |
| held out | [240 new settings](results/small-study-seed-1.csv), trained after the analysis and the predictions were written (`paper/predictions.py`) |
| within | pairs of two trials of one network |
| between | pairs of trials of two networks |

![AUC of each measure, within and between networks](figures/{PICTURE})

[All numbers](results/settings-that-train.csv) have each network too.
"""  # noqa: E501 - a row of a table
OUTCOME = """\
| prediction for the held-out trials | held out |
|---|---|
| intervals above 0.5, or that contain 0.5: right | {predictions_right} of {predictions} |
| AUC of the spectral radius minus that of "is an RHN", between, rate >= 0.1: at most \
{radius_beyond_name_most} | {radius_beyond_name} |"""


def modules() -> list[str]:
    """Return the names of the modules of this folder, without this one."""
    names = (module.name for module in pkgutil.iter_modules(paper.__path__, "paper."))
    return [name for name in names if name != "paper.__main__"]


def measured() -> dict[str, Value]:
    """Call `rows` of each module that has it, and print its seconds."""
    values = dict[str, Value]()
    for name in modules():
        module = importlib.import_module(name)
        if hasattr(module, "rows"):
            start = time.perf_counter()
            found = module.rows()
            assert not values.keys() & found.keys(), f"{name} returns names of another module"
            values |= found
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    return values


def page(values: Mapping[str, Value], orders: Orders) -> str:
    """Return the text of docs/paper.md."""
    shown = {name: text_of(value) for name, value in values.items()}
    question = [QUESTION, *page_table(orders), "", OUTCOME.format_map(shown)]
    return "\n\n".join([INTRODUCTION, *sections(values), "\n".join(question)]) + "\n"


def main() -> None:
    """Measure, and write the stored values and the page."""
    write_values(measured())
    PAGE.write_text(page(read_values(), read_orders()))
    print(f"file: {STORED.relative_to(ROOT)}")
    print(f"file: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
