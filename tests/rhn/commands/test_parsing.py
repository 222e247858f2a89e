"""What a user types becomes the values of a command, or one sentence."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from tables import for_each

from rhn.errors import InvalidInputError
from rhn.utils.command_line import Fraction, command_line, run_read


@for_each(
    ("words", "reason"),
    [
        ("", "a command is missing, expected one of draw"),
        ("draw --share 1", 'Invalid value "1.0" for --share. Must be < 1.'),
        ("draw --steps 1.5", 'for --steps: unable to convert "1.5" into int'),
        ("draw --output=", 'for --output: unable to convert "" into Path'),
        ("draw --stepps 1", "Unknown option: --stepps. Did you mean --steps?"),
    ],
)
def test_a_command_is_not_run_with_words_that_cannot_be_read(words, reason):
    drawn, tool = [], command_line("tool", "A tool.")

    @dataclass(frozen=True, kw_only=True)
    class Draw:
        """Draw."""

        share: Fraction = 0.5
        steps: int = 3
        output: Path = Path("a.png")

    tool.command(Draw, name="draw")
    run_read(tool, ["draw", "--steps", "4"], drawn.append)
    assert drawn == [Draw(steps=4)]
    with pytest.raises(InvalidInputError) as refused:
        run_read(tool, words.split(), drawn.append)
    assert reason in str(refused.value) and len(drawn) == 1
