"""What a check says agrees with its numbers, whatever these are, and its figure can be read."""

import json
import math
import random
import re

import pytest
from tables import others_slow

from rhn.utils.figures import our_style
from tests.readable import WIDTHS, readable
from trainability.cause import Cause
from trainability.diagnosis import IN_GOOD, YOURS, Diagnosis, TableRow
from trainability.swaps import PARTS, SWAPS

DANGLING = re.compile(r",[),.;]|, ?$|\( |\(\)| [,.;)]|;;|\.\.|nan\b|\binf\b|: ?[;.,]")
OUTCOMES = "learns", "learns little", "does not learn", "diverges", "undecided"
WORDS, KEPT = ("at fault", "enough", ""), ("breaks", "cleared", "")
CURVE = ((1, 1.0), (20, 0.9))


def made(seed: int) -> Diagnosis:
    """A diagnosis of random numbers, of every kind that there can be."""
    draw = random.Random(seed)

    def number() -> float:
        return draw.choice([0.0, 0.01, 0.5, 0.98, 1.0, 1.3, 80.0, 1e9, math.inf, math.nan])

    steps, outcome = draw.choice([1, 40, 3000]), draw.choice(OUTCOMES)
    run = steps if outcome != "undecided" else max(1, steps // 3)
    rows = [TableRow("", "your training run, unchanged", number(), run, 0.0, curve=CURVE)]
    for swap in SWAPS:
        for training, word in ((YOURS, draw.choice(WORDS)), (IN_GOOD, draw.choice(KEPT))):
            if draw.random() < 0.5:
                about = {"training": training, "word": word, "finished": draw.random() < 0.8}
                rows.append(
                    TableRow(swap.part, swap.what, number(), run, 0.1, curve=CURVE, **about)
                )
    causes = tuple(
        Cause(f"cause {k}", draw.choice(PARTS), f"It measures {k}.", f"Mend {k}.", sure=not k)
        for k in range(draw.randint(0, 3))
    )
    return Diagnosis(
        title="Net",
        outcome=outcome,
        error=rows[0].error,
        loss=number(),
        known_good=number(),
        steps=run,
        of_steps=steps,
        orders=draw.choice([(), (1.0,), (1.0, 0.9, math.inf)]),
        part=causes[0].part if causes else None,
        causes=causes,
        facts=causes[:1],
        remarks=draw.choice([(), ("Cleared: your network.",)]),
        rows=tuple(rows) if draw.random() < 0.9 else (),
    )


@pytest.mark.parametrize("seed", range(200))
def test_an_answer_is_whole_sentences_and_a_line_for_each_part(seed):
    found = made(seed)
    text = str(found)
    for line in found.sentences():
        assert line.startswith("  ") or not DANGLING.search(line), line
    assert sum(line.startswith("  ") for line in text.splitlines()) <= 1 + len(PARTS)
    assert text.startswith("Net ")
    assert json.dumps(found.to_dict())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("seed", others_slow(range(5), 0))
def test_the_figure_of_a_check_can_be_read(seed, width):
    with our_style(width):
        found = made(seed)
        least = 5 if any(row.curve for row in found.rows) else 3
        readable(found.plot().get_figure(root=True), least=least)
