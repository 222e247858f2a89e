"""What a check says agrees with its numbers, whatever these are."""

import math
import random
import re
from dataclasses import replace

from tables import for_each

from gersgorin.checking.verdict import ENDS, Check, Outlook, Suggestion, Training

DANGLING = re.compile(r",[),.;]|, ?$|\( |\(\)| [,.;)]|;;|nan\b|\binf\b|: ?[;.,]|  ")


def outlook(draw: random.Random, epochs: int, *, known: bool, followed: bool) -> Outlook:
    ended = draw.choice(["left", "leaving", "waiting", "never", "diverged", "unsettled"]) if followed else "unfollowed"
    near = draw.choice([0.3, 0.98, 0.9999, 1.0001, 1.02, 3, 1e4, 1e9])
    escape = near * epochs if ended in ("left", "leaving") else math.inf if followed else math.nan
    if not known or not followed:
        return Outlook(escape_epochs=escape, ended=ended, probability=None, interval=None)
    networks = draw.randint(1, 300)
    learned = draw.randint(0, networks)
    share = (learned + 1) / (networks + 2)
    interval = max(0.0, share - 0.1), min(1.0, share + 0.1)
    told = {"networks": networks, "learned": learned}
    return Outlook(escape_epochs=escape, ended=ended, probability=share, interval=interval, **told)


def made(seed: int) -> Check:
    """A check of random numbers, of every kind that there can be."""
    draw = random.Random(seed)
    epochs, known, followed = draw.choice([1, 12, 300, 200_000, 10**8]), draw.random() < 0.6, draw.random() < 0.9
    found = outlook(draw, epochs, known=known, followed=followed)
    options = [{"init": "scaled"}, {"cell": "rhn"}, {"learning_rate": 0.3}]
    tried = [
        Suggestion(change="try this", option=o, outlook=outlook(draw, epochs, known=known, followed=followed))
        for o in draw.sample(options, draw.randint(0, 3))
    ]
    check = Check(
        name="rnn, 5 units",
        training=Training(learning_rate=0.1, epochs=epochs),
        outlook=found,
        order=draw.choice([math.nan, 0.0, 4.98, 2.4]),
        rates={"cells.0.weight_hh": 0.01},
        constant_loss=11.0,
        first_loss=60.0,
        weight_scale=draw.choice([None, 1e-4, 0.3]),
        unlike=None if found.probability is not None else "is a cell of your own",
        again=draw.choice([None, "left", "diverged"]) if found.ended == "diverged" else None,
        suggestions=tuple(tried),
    )
    if draw.random() < 0.1:
        left = Outlook(escape_epochs=0.0, ended="left", probability=None, interval=None)
        return replace(check, outlook=left, first_loss=5.0, unlike="has left the plateau already", suggestions=())
    return check


CHECKS = [made(seed) for seed in range(300)]


def number(words: str) -> float:
    power = re.fullmatch(r"10\^(\d+)", words)
    return 10.0 ** int(power[1]) if power else float(words.replace(",", ""))


def better(new: Outlook, old: Outlook) -> bool:
    """Whether a change helps much, by its numbers: the probability doubles, or the time on the plateau halves."""
    if new.probability is not None and old.probability is not None:
        return new.probability >= 2 * old.probability
    return new.escape_epochs <= old.escape_epochs / 2 and math.isfinite(new.escape_epochs)


def test_no_text_has_dangling_punctuation_or_bare_nan():
    for check in CHECKS:
        assert not DANGLING.search(check.verdict), check.verdict
        for line in check.summary().splitlines():
            assert not re.search(r",[),.;]|,$|\(\)|nan\b", line), line


def test_times_in_the_verdict_agree_with_the_training():
    said = 0
    for check in CHECKS:
        if match := re.search(r"will sit on the plateau for about (\S+) epochs?, and has (\d+)", check.verdict):
            assert number(match[1]) > int(match[2]), check.verdict
            said += 1
        if match := re.search(r"should leave the plateau after about (\S+) epochs? of (\d+)", check.verdict):
            assert number(match[1]) <= int(match[2]), check.verdict
            said += 1
    assert said > 50


def test_nothing_helps_is_said_only_where_nothing_does():
    for check in CHECKS:
        helpful = [s for s in check.suggestions if better(s.outlook, check.outlook)]
        if "nothing that was tried helps" in check.verdict:
            assert not helpful and not math.isnan(check.escape_epochs), check.summary()
        if helpful:
            assert "(--" in check.verdict, check.summary()


def test_what_is_advised_is_better_than_what_there_is():
    for check in CHECKS:
        for option, p in re.findall(r"\((--\S+ \S+?): [^()]*probability (\d\.\d\d)\)", check.verdict):
            assert float(p) >= round(check.probability, 2), (option, check.verdict)
            assert float(p) >= 0.5 or "not enough" in check.verdict, (option, check.verdict)


def test_verdict_and_table_say_the_same():
    for check in CHECKS:
        table = check.summary().partition("\n")[2]
        assert ("probability    not known" in table) == (check.probability is None)
        if "has left the plateau already" in check.verdict:
            assert "leaves after   has left already" in table, table
        if "should leave" in check.verdict:
            assert not any(words in table.partition("tried instead")[0] for _, words in ENDS.values())


@for_each("ended", [*ENDS, "left", "leaving"])
def test_every_end_of_the_way_is_met(ended):
    assert any(check.outlook.ended == ended for check in CHECKS)
