"""Names a backlog: what one destination is owed of one signal.

The one place that knows how such a name is written on disk: a destination's name alone for its
traces, as files of before signals have it, else with the signal behind a colon (`axiom:logs`).
Names of destinations hold no colon.
"""

from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from relay.model.records import Signal

UNCLAIMED = ""
"""The destination of rows whose signal no destination asks for yet: the first one that does gets
them."""

_SIGNALS = {signal.name.lower(): signal for signal in Signal}


class BacklogName(NamedTuple):
    """A destination and a signal."""

    destination: str
    signal: Signal = Signal.TRACES

    @property
    def text(self) -> str:
        """As it is on disk."""
        if self.signal is Signal.TRACES:
            return self.destination
        return f"{self.destination}:{self.signal.name.lower()}"

    @property
    def is_claimed(self) -> bool:
        """Whether it is a destination's."""
        return self.destination != UNCLAIMED

    @property
    def unclaimed(self) -> "BacklogName":
        """Nobody's backlog of the same signal."""
        return self._replace(destination=UNCLAIMED)

    def is_among(self, owners: Collection[str], *, is_open: bool) -> bool:
        """Whether it is owed what `owners` are: what is owed to nobody is whoever's claims it, if
        the backlog `is_open` to what comes.
        """
        return self.text in owners or (is_open and self.unclaimed.text in owners)


@lru_cache(maxsize=1024)
def backlog_name(text: str) -> BacklogName:
    """The backlog that `text` names on disk; what is damaged there names traces of nobody known."""
    destination, _, word = text.partition(":")
    signal = _SIGNALS.get(word)
    return BacklogName(text) if signal is None else BacklogName(destination, signal)
