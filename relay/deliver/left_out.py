"""Items that are not sent with the rest of their batch, because the upstream would refuse them.

Those of the other temporality than the destination takes are known before anything is sent; those
that are too late are found when a batch was refused for it (`isolate.age`). Both stay out of the
body, and become dead letters in the step that settles the batch. Pure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from relay.config import DestinationConfig
from relay.model.reasons import Reason
from relay.model.records import Encoding, Signal
from relay.otlp.item_facts import temporalities_of
from relay.otlp.split import pick_items

UNSPECIFIED = 0
# aggregationTemporality, as OTLP numbers it.
_TAKEN = {"delta": 1, "cumulative": 2}
_VARIABLE = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"


class Why(NamedTuple):
    """Why an item is left out, as its dead letter says it."""

    reason: Reason
    words: str
    status: int = 0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What is left out of a batch for one reason, as a fragment."""

    why: Why
    fragment: bytes
    items: int
    encoding: Encoding


# Of a fragment: for each item why it is left out, or None.
Judge = Callable[[bytes, Encoding, Signal], Sequence[Why | None]]


def sift(
    fragment: bytes, encoding: Encoding, signal: Signal, judge: Judge
) -> tuple[bytes, list[LeftOut]]:
    """`fragment` without what `judge` leaves out of it, and that.

    Raises TranscodeError when the fragment is not what this relay writes.
    """
    verdicts = judge(fragment, encoding, signal)
    found = [why for why in dict.fromkeys(verdicts) if why is not None]
    if not found:
        return fragment, []
    parts = [
        LeftOut(
            why,
            pick_items(fragment, encoding, [each == why for each in verdicts], signal),
            verdicts.count(why),
            encoding,
        )
        for why in found
    ]
    return pick_items(fragment, encoding, [each is None for each in verdicts], signal), parts


def judge_of_temporality(settings: DestinationConfig) -> Judge | None:
    """What leaves out the points that a destination does not take; None where it takes any."""
    if settings.signal is not Signal.METRICS or settings.temporality == "any":
        return None
    wanted, only = (
        _TAKEN[settings.temporality],
        f"{settings.name} takes only {settings.temporality}",
    )
    other = Why(Reason.TEMPORALITY, f"{only}; set {_VARIABLE}={settings.temporality} at the sender")
    unspecified = Why(
        Reason.TEMPORALITY,
        f"{only}, and the sender does not say which this is (aggregationTemporality is "
        "unspecified); correct the sender",
    )

    def judge(fragment: bytes, encoding: Encoding, _signal: Signal) -> list[Why | None]:
        return [
            None if each in (None, wanted) else unspecified if each == UNSPECIFIED else other
            for each in temporalities_of(fragment, encoding)
        ]

    return judge
