"""Consistent probability sampling: 56 random bits of a trace against a rejection threshold. Pure.

Everybody who samples a trace by the same ratio decides alike, without asking each other: a trace is
kept where its randomness is not below the threshold, (1 - ratio) * 2**56. The randomness is the
last seven bytes of the trace id, or `rv` of its `tracestate` where the root had better ones. What
was decided is written beside it as `th`, from which a reader tells how many a kept span stands for.

The rules are OpenTelemetry's, "TraceState: Probability Sampling" and "TraceState Handling". Of its
two kinds of samplers behind others this is the equalizing one: who comes with a higher threshold
keeps it, so that ratio 0.1 behind an SDK's 0.5 leaves a tenth of all traces, not a twentieth.
"""

import math
import re
from typing import Final, NamedTuple

BITS: Final = 56
# One more than the highest randomness: nothing gets over it.
NEVER: Final = 1 << BITS
_DIGITS: Final = BITS // 4
# Significant hexadecimal digits of a threshold, as the specification recommends.
PRECISION: Final = 4
MOST_OT_CHARACTERS: Final = 256
# Of the whole list, by W3C Trace Context.
MOST_MEMBERS: Final = 32

_THRESHOLD = re.compile(r"[0-9a-fA-F]{1,14}", re.ASCII)
_RANDOMNESS = re.compile(r"[0-9a-fA-F]{14}", re.ASCII)


def threshold_of(ratio: float, precision: int = PRECISION) -> int:
    """The rejection threshold of a ratio from 0 to 1, rounded to so many significant digits.

    Leading f are not counted: the digits are those that tell small ratios apart. A ratio below
    2**-56 gives `NEVER`.
    """
    exact = NEVER - round(ratio * NEVER)
    if exact in (0, NEVER):
        return exact
    _, exponent = math.frexp(ratio)
    unit = 1 << 4 * max(_DIGITS - precision - -exponent // 4, 0)
    rounded = (exact + unit // 2) // unit * unit
    return rounded if rounded < NEVER else exact


def text_of(threshold: int) -> str:
    """A threshold as `th` has it: without the zeros at its end."""
    return f"{threshold:014x}".rstrip("0") or "0"


class OtState(NamedTuple):
    """A `tracestate` taken apart.

    `threshold` and `randomness` are None where they are absent or malformed; `own` are the other
    sub-keys of the member `ot`, in order, `rv` as it was written among them; `others` are the other
    members of the list.
    """

    threshold: int | None
    randomness: int | None
    own: tuple[str, ...]
    others: tuple[str, ...]


_NOTHING = OtState(None, None, (), ())


def parse(tracestate: str) -> OtState:
    """What a `tracestate` says of sampling; nothing of it is lost but a second `ot`."""
    if not tracestate:
        return _NOTHING
    value: str | None = None
    others = []
    for member in tracestate.split(","):
        name, sign, rest = member.strip(" \t").partition("=")
        if name.rstrip(" \t") == "ot" and sign:
            value = rest.strip(" \t") if value is None else value
        elif name:
            others.append(member.strip(" \t"))
    threshold = randomness = None
    own = []
    for part in value.split(";") if value else ():
        key, _, text = part.partition(":")
        if key == "th":
            if threshold is None and _THRESHOLD.fullmatch(text):
                threshold = int(text.ljust(_DIGITS, "0"), 16)
            continue
        if key == "rv" and _RANDOMNESS.fullmatch(text):
            randomness = int(text, 16)
        if part:
            own.append(part)
    return OtState(threshold, randomness, tuple(own), tuple(others))


def randomness_of(trace_id: str) -> int:
    """The randomness that a trace id (32 hexadecimal digits) itself has."""
    return int(trace_id[-_DIGITS:], 16)


class RatioSampler:
    """Keeps a share of all traces."""

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio
        self.threshold = threshold_of(ratio)
        self._text = text_of(self.threshold)
        self._digits = f"{self.threshold:014x}"
        # What most spans that are kept come to.
        self._alone = f"ot=th:{self._text}"

    def keeps(self, trace_id: str, tracestate: str = "") -> bool:
        """Whether a trace is among them; `tracestate` is of any of its spans."""
        if "rv:" in tracestate and (randomness := parse(tracestate).randomness) is not None:
            return randomness >= self.threshold
        # Of hexadecimal digits in lower case the order is that of the numbers.
        return self.threshold < NEVER and trace_id[-_DIGITS:] >= self._digits

    def marked(self, trace_id: str, tracestate: str) -> str:
        """The `tracestate` of a span of a trace that it keeps.

        Its `th` is the higher one of its own and the sampler's. One that the randomness contradicts
        says nothing, and is replaced; where `ot` would become too long, it is left without.
        """
        if not tracestate:
            return self._alone
        state = parse(tracestate)
        randomness = state.randomness
        if randomness is None:
            randomness = randomness_of(trace_id)
        before = state.threshold
        if before is None or before > randomness or before <= self.threshold:
            text = self._text
        else:
            return tracestate
        own = ";".join((f"th:{text}", *state.own))
        if len(own) > MOST_OT_CHARACTERS:
            own = ";".join(state.own)
        # A member that was changed stands first, and the last one makes room for one that is new.
        return ",".join((f"ot={own}", *state.others[: MOST_MEMBERS - 1]))
