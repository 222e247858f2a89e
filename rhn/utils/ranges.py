"""Types of numbers with a range, as in `epochs: Count = 300`. The command line refuses a number
outside its range; in Python, `rhn.utils.validation.check_fields` does.
"""

from typing import Annotated

from cyclopts import Parameter

from rhn.utils.validation import DRAWN, LARGEST_FLOAT, Range


def within(**bounds: float) -> Parameter:
    """Return the annotation of a number with these bounds of `Range`."""
    return Parameter(validator=Range(**bounds))


Count = Annotated[int, within(least=1)]
Natural = Annotated[int, within(least=0)]
Drawable = Annotated[float, within(**DRAWN)]
Positive = Annotated[float, within(above=0)]
NonNegative = Annotated[float, within(least=0, most=LARGEST_FLOAT)]
Finite = Annotated[float, within()]
Fraction = Annotated[float, within(least=0, below=1)]
