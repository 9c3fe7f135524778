"""The text of a JSON number in (bare or quoted), an exact integer or a finite double out.

Lengths are bounded before anything is computed: `1e1000000000` costs nothing here. What int() and
float() take beyond JSON (blanks, underscores, other scripts' digits, "inf") is refused.
"""

import math
import re
from decimal import Decimal
from typing import Final

MOST_CHARACTERS: Final = 4000
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")


def read_whole(text: str, low: int, high: int) -> int:
    """The integer that `text` means, which may be written `2.0` or `1e3` (decision D8).

    Raises ValueError when it is none, has a fraction, or is not within `low` … `high`.
    """
    shape = _NUMBER.fullmatch(text) if len(text) <= MOST_CHARACTERS else None
    if shape is None:
        raise ValueError("no number")
    if shape[1] is None and shape[2] is None:
        number = int(text)
    else:
        decimal = Decimal(text)
        if decimal and not 0 <= decimal.adjusted() <= 20:
            raise ValueError("not whole, or out of range")
        number = int(decimal)
        if number != decimal:
            raise ValueError("not whole")
    if not low <= number <= high:
        raise ValueError("out of range")
    return number


def read_double(text: str) -> float:
    """The double nearest to `text`. Raises ValueError for what is none or overflows."""
    shape = _NUMBER.fullmatch(text) if len(text) <= MOST_CHARACTERS else None
    if shape is None:
        raise ValueError("no number")
    number = float(text)
    if shape[1] is None and shape[2] is None:
        number += 0.0  # an integer has no negative zero, as in the fast way
    if not math.isfinite(number):
        raise ValueError("out of range")
    return number
